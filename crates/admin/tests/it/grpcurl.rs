//! A client that knows nothing of farebox: grpcurl, which learns the API from its reflection service.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::world::{MASTER, World};

const MODULE: &str = "github.com/fullstorydev/grpcurl/cmd/grpcurl";
const VERSION: &str = "v1.9.4";

/// From the PATH, else built once on a machine with Go.
fn grpcurl() -> PathBuf {
    if Command::new("grpcurl").arg("-version").output().is_ok_and(|output| output.status.success()) {
        return PathBuf::from("grpcurl");
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).expect("a cache");
    let bin = cache.join("farebox").join(format!("grpcurl-{VERSION}"));
    fs::create_dir_all(&bin).expect("the cache can be written");
    let lock = File::create(bin.join("lock")).expect("the cache can be written");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    let program = bin.join("grpcurl");
    if !program.exists() {
        let mut build = Command::new("go");
        build.args(["install", &format!("{MODULE}@{VERSION}")]).env("GOBIN", &bin).env("CGO_ENABLED", "0");
        let built = build.output().unwrap_or_else(|error| {
            panic!("grpcurl is not on the PATH and cannot be built ({error}): install it, or Go")
        });
        assert!(built.status.success(), "{MODULE} does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    }
    program
}

/// Runs it with these arguments before address and method.
async fn run(world: &World, options: &[&str], rest: &[&str]) -> Output {
    let options: Vec<String> = options.iter().map(|text| (*text).to_owned()).collect();
    let rest: Vec<String> = rest.iter().map(|text| (*text).to_owned()).collect();
    let addr = world.addr.clone();
    let ran = tokio::task::spawn_blocking(move || {
        Command::new(grpcurl()).arg("-plaintext").args(options).arg(addr).args(rest).output()
    });
    ran.await.expect("it ends").expect("grpcurl runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Calls a method with the master key; what it answers.
async fn call(world: &World, method: &str, message: &Value) -> Value {
    let (bearer, body) = (format!("authorization: Bearer {MASTER}"), message.to_string());
    let output = run(world, &["-H", &bearer, "-d", &body], &[method]).await;
    assert!(output.status.success(), "{method} {message}: {}", text(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test]
async fn a_client_that_knows_nothing_lists_and_calls_the_api() {
    let world = World::start().await;
    let listed = text(&run(&world, &[], &["list"]).await);
    for service in ["Key", "Project", "Organisation", "Group", "Budget", "Limit", "Model", "Call", "Config", "Audit"] {
        assert!(listed.contains(&format!("farebox.admin.v1.{service}Service")), "{listed}");
    }
    assert!(listed.contains("grpc.health.v1.Health"), "{listed}");
    let described = text(&run(&world, &[], &["describe", "farebox.admin.v1.CreateBudgetRequest"]).await);
    assert!(described.contains(".farebox.v1.Budget budget = 1"), "{described}");

    let project = json!({ "project": { "name": "p1" }, "write": { "reason": "grpcurl" } });
    let made = call(&world, "farebox.admin.v1.ProjectService/CreateProject", &project).await;
    assert_eq!(made["project"]["change"]["reason"], "grpcurl", "{made}");
    let key = json!({ "key": { "id": "k1", "project": "p1" } });
    let made = call(&world, "farebox.admin.v1.KeyService/CreateKey", &key).await;
    assert!(made["text"].as_str().is_some_and(|text| text.starts_with("fb-k1-")), "{made}");
    assert!(made["key"]["hash"].is_null(), "{made}");
    let listed = call(&world, "farebox.admin.v1.KeyService/ListKeys", &json!({ "project": "p1" })).await;
    assert_eq!(listed["keys"][0]["key"]["id"], "k1", "{listed}");
    assert!(!listed.to_string().contains(made["text"].as_str().unwrap().rsplit('-').next().unwrap()), "shown once");
    let health = call(&world, "grpc.health.v1.Health/Check", &json!({})).await;
    assert_eq!(health["status"], "SERVING", "{health}");

    let bearer = format!("authorization: Bearer {MASTER}");
    let bad = json!({ "budget": { "name": "b", "period": "fortnight", "limit": { "usd": "1" } } }).to_string();
    let refused = run(&world, &["-H", &bearer, "-d", &bad], &["farebox.admin.v1.BudgetService/CreateBudget"]).await;
    let said = text(&refused);
    assert!(!refused.status.success(), "{said}");
    for part in ["InvalidArgument", "google.rpc.BadRequest", "budget.period", "google.rpc.ErrorInfo", "BAD_REQUEST"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let nobody = text(&run(&world, &["-d", "{}"], &["farebox.admin.v1.KeyService/ListKeys"]).await);
    assert!(nobody.contains("Unauthenticated"), "{nobody}");
    world.stop().await;
}
