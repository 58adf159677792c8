//! What goes wrong, and when.

use std::time::Duration;

use farebox_testkit::Dice;
use tokio::time::{Instant, sleep, sleep_until};

use crate::table;

use super::cluster::{Cluster, WORKERS};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    KillLeader,
    StopLeader,
    KillWorker,
    StopWorker,
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    act: Act,
    /// After the fault before, or the first call.
    after: Duration,
    /// How long it lasts: until a killed process is started again, or a stopped one goes on.
    lasts: Duration,
    worker: &'static str,
}

/// Each storm has each fault at least once, in an order of its own.
pub(crate) fn plan(dice: &mut Dice) -> Vec<Fault> {
    let mut acts = vec![Act::KillLeader, Act::StopLeader, Act::KillWorker, Act::StopWorker];
    acts.push(dice.of(&[Act::KillLeader, Act::StopLeader]));
    let mut faults = Vec::new();
    while !acts.is_empty() {
        let act = acts.swap_remove(usize::try_from(dice.roll() % acts.len() as u64).unwrap_or_default());
        let lasts = match act {
            Act::KillLeader | Act::KillWorker => dice.millis(0, 800),
            // On both sides of the lead's and the lease's time.
            Act::StopLeader | Act::StopWorker => dice.millis(200, 4_500),
        };
        faults.push(Fault { act, after: dice.millis(50, 900), lasts, worker: dice.of(&WORKERS) });
    }
    faults
}

/// Makes them happen, one after the other.
pub(crate) async fn play(cluster: &mut Cluster, faults: Vec<Fault>) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut at = began;
    for fault in faults {
        at = at.max(Instant::now()) + fault.after;
        sleep_until(at).await;
        let name = match fault.act {
            Act::KillLeader | Act::StopLeader => cluster.leader(),
            Act::KillWorker | Act::StopWorker => fault.worker,
        };
        table::note(&format!("after {} ms: {:?} {name} for {:?}", began.elapsed().as_millis(), fault.act, fault.lasts));
        match fault.act {
            Act::KillLeader | Act::KillWorker => {
                cluster.kill9(name).await;
                sleep(fault.lasts).await;
                cluster.start_role(name).await?;
            }
            Act::StopLeader | Act::StopWorker => {
                cluster.stop(name)?;
                sleep(fault.lasts).await;
                cluster.go_on(name)?;
            }
        }
    }
    Ok(())
}
