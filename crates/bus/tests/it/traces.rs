//! Who listens, as one server and as a cluster of three know it, within an account and across accounts.

use std::time::Duration;

use bytes::Bytes;
use farebox_bus::{Asking, Bus, Delivery, Headers, Login, Options, Subscription, Traces};
use farebox_testkit::{PATIENCE, TestNats, free_port};
use futures::future::join_all;
use tokio::time::timeout;

const ACCOUNTS: &str = r#"
accounts {
  FAREBOX: { users: [{ user: farebox, password: p }], exports: [{ service: "llm.*.request", response_type: Stream }] }
  ACME: {
    users: [{ user: acme, password: p }]
    imports: [{ service: { account: FAREBOX, subject: "llm.acme.request" }, to: "llm.request" }]
  }
}
"#;

async fn servers(count: usize, accounts: bool) -> Vec<TestNats> {
    let ports: Vec<u16> = (0..count).map(|_| free_port().unwrap()).collect();
    let routes: Vec<String> = ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    let start = ports.iter().enumerate().map(|(n, port)| {
        let routes = routes.join(", ");
        let cluster = format!("cluster {{ name: c, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}");
        let lines = format!("server_name: n{n}\n{}", if accounts { ACCOUNTS } else { "" });
        let server = TestNats::builder().without_jetstream().config(&lines);
        if count > 1 { server.config(&cluster).start() } else { server.start() }
    });
    join_all(start).await.into_iter().map(Result::unwrap).collect()
}

async fn connect(server: &TestNats, user: Option<&str>) -> Bus {
    let login = user.map_or(Login::None, |user| Login::UserPassword(user.to_owned(), "p".to_owned()));
    Bus::connect_as(&Options { url: server.url(), ..Options::default() }, login).await.unwrap()
}

/// What is said when it is asked once.
async fn asked(bus: &Bus, traces: &mut Traces, to: &str) -> Option<bool> {
    match bus.asking(to) {
        Asking::Aside => bus.who_listens(to).await.unwrap(),
        Asking::WithMessage => bus.publish_traced(to, Headers::new(), Bytes::from_static(b"piece")).await.unwrap(),
        Asking::Never => unreachable!("it is somebody else's"),
    }
    let _ = timeout(Duration::from_millis(300), traces.gather()).await;
    traces.take().get(to).copied()
}

/// The same until it is said: a cluster needs a moment to know of a change.
async fn becomes(bus: &Bus, traces: &mut Traces, to: &str, somebody: bool) {
    let said = async { while asked(bus, traces, to).await != Some(somebody) {} };
    timeout(PATIENCE, said).await.unwrap_or_else(|_| panic!("{to}: never {somebody}"));
}

async fn next(subscription: &mut Subscription) -> Delivery {
    timeout(PATIENCE, subscription.next()).await.unwrap().unwrap()
}

/// A request through intake, and where its answer goes.
async fn request(caller: &Bus, requests: &mut Subscription, inbox: &str) -> String {
    loop {
        caller.publish_with_reply("llm.request", inbox, Headers::new(), Bytes::new()).await.unwrap();
        if let Ok(delivery) = timeout(Duration::from_millis(300), requests.next()).await {
            return delivery.unwrap().reply.unwrap();
        }
    }
}

#[tokio::test]
async fn servers_say_whether_somebody_listens_and_nobody_hears_the_question() {
    for (count, accounts) in [(1, false), (1, true), (3, false), (3, true)] {
        let servers = servers(count, accounts).await;
        let (own, callers) = if accounts { (Some("farebox"), Some("acme")) } else { (None, None) };
        let (intake, worker) = (connect(&servers[count / 2], own).await, connect(&servers[count - 1], own).await);
        let mut traces = worker.traces().await.unwrap();
        let subject = if accounts { "llm.acme.request" } else { "llm.request" };
        let mut requests = intake.subscribe(subject, None).await.unwrap();
        intake.flush().await.unwrap();
        assert!(worker.can_trace());

        let caller = connect(&servers[0], callers).await;
        let mut inbox = caller.subscribe("_INBOX.caller.1", None).await.unwrap();
        let to = request(&caller, &mut requests, "_INBOX.caller.1").await;
        assert_eq!(worker.asking(&to), if accounts { Asking::WithMessage } else { Asking::Aside });
        becomes(&worker, &mut traces, &to, true).await;
        // The way to it is still there, and on it came what was published, no more.
        worker.publish(&to, Headers::new(), Bytes::from_static(b"last")).await.unwrap();
        let mut heard = next(&mut inbox).await;
        // In a cluster that does not know of intake yet, the server has said so.
        while heard.is_no_responders() || accounts && heard.payload == "piece" {
            heard = next(&mut inbox).await;
        }
        assert_eq!(heard.payload, "last");

        drop((caller, inbox));
        becomes(&worker, &mut traces, &to, false).await;
        if !accounts {
            let caller = connect(&servers[count / 2], callers).await;
            let _inbox = caller.subscribe("_INBOX.caller.1", None).await.unwrap();
            becomes(&worker, &mut traces, &to, true).await;
        }
    }
}

#[tokio::test]
async fn an_inbox_of_ones_own_is_not_asked_about() {
    let server = TestNats::builder().without_jetstream().start().await.unwrap();
    let bus = connect(&server, None).await;
    assert_eq!(bus.asking(&bus.inbox().subject()), Asking::Never);
    assert_eq!(bus.asking(&connect(&server, None).await.inbox().subject()), Asking::Aside);
}
