//! Who is let in.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::*;
use crate::repo::Repo;
use crate::service::client::condition;

const SECRET: &str = "0123456789abcdef-secret";

fn sign(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body).finalize();
    let hex: String = mac.into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

#[tokio::test]
async fn a_secret_and_a_token_are_both_needed_where_both_are_named() {
    let mut service = service();
    echo(&service, "signed", "webhook: /hooks/signed, webhook_secret: '${HOOK_SECRET}'");
    echo(&service, "token", "webhook: /hooks/token, bearer: '${HOOK_TOKEN}'");
    let both = "webhook: /hooks/both, webhook_secret: '${HOOK_SECRET}', bearer: '${HOOK_TOKEN}'";
    echo(&service, "both", both);
    let client = service.start().await;
    for name in ["signed", "token", "both"] {
        until_served(&client, &format!("s/{name}"), &format!("/hooks/{name}")).await;
    }
    let body = b"{\"a\": 1}";
    let (good, bad) = (sign(SECRET, body), sign("another secret of 16", body));
    let (good, bad) = (("X-Hub-Signature-256", good.as_str()), ("X-Hub-Signature-256", bad.as_str()));
    let empty = sign(SECRET, b"");
    let empty = ("X-Hub-Signature-256", empty.as_str());
    let token = ("Authorization", "Bearer 0123456789abcdef-token");
    let wrong = ("Authorization", "Bearer 0123456789abcdef-tokem");
    let other = ("Authorization", "Bearer 0123456789abcdef-secret");
    // A provider names the host that it knows, comes through proxies and from pages.
    let afar =
        [("Host", "hooks.example.org"), ("X-Forwarded-For", "8.8.8.8"), ("Origin", "https://example.org")];
    let cases: [(&str, Vec<_>, u16); 16] = [
        ("signed", vec![good], 200),
        ("signed", vec![], 401),
        ("signed", vec![bad], 401),
        ("signed", vec![empty], 401),
        ("signed", vec![good, good], 401),
        ("signed", vec![("X-Hub-Signature", "sha1=0123456789abcdef0123")], 401),
        ("signed", vec![token], 401),
        ("token", vec![token], 200),
        ("token", vec![], 401),
        ("token", vec![wrong], 401),
        ("token", vec![other], 401),
        ("token", vec![good], 401),
        ("both", vec![good, token], 200),
        ("both", vec![good], 401),
        ("both", vec![token], 401),
        ("both", vec![bad, token], 401),
    ];
    for (name, shown, expected) in &cases {
        for more in [&[][..], &afar] {
            let headers = [shown.as_slice(), more].concat();
            let reply = call(&client, "POST", &format!("/hooks/{name}"), &headers, body).await;
            assert_eq!(reply.status, *expected, "{name} with {headers:?}: {reply:?}");
            let told = reply.text();
            assert!(
                *expected == 200 || told.contains("the signature or the token is missing or wrong"),
                "{told}"
            );
            assert!(!told.contains("0123456789abcdef"), "{told}");
        }
    }
    // A call without a body is signed over none; malformed JSON is not looked at before the signature.
    assert_eq!(call(&client, "GET", "/hooks/signed", &[empty], b"").await.status, 200);
    let kind = ("Content-Type", "application/json");
    assert_eq!(call(&client, "POST", "/hooks/signed", &[bad, kind], b"{").await.status, 401);
    what_is_listed(&service, &client).await;
    // The API's own token opens no hook.
    let own = std::fs::read_to_string(service.data_dir().join("token")).unwrap();
    let own = format!("Bearer {}", own.trim());
    assert_eq!(call(&client, "GET", "/hooks/token", &[("Authorization", &own)], b"").await.status, 401);
    // Strangers leave a line of the log now and then, and no run.
    let runs = client.items("/api/v1/runs?limit=1000").await.len();
    assert_eq!(runs, 7);
    assert_eq!(service.log().matches("calls of task webhooks that may not call them").count(), 1);
}

/// The listing says what callers need, and shows none of it.
async fn what_is_listed(service: &Service, client: &Client) {
    let listed: Vec<Value> = client.items("/api/v1/hooks").await;
    let of = |path: &str| listed.iter().find(|hook| hook["path"] == path).unwrap().clone();
    assert_eq!(of("/hooks/both")["needs"], json!(["signature", "token"]), "{listed:?}");
    assert_eq!(of("/hooks/token")["task"], "s/token");
    assert_eq!(of("/hooks/signed")["methods"], json!(["GET", "HEAD", "POST"]));
    let shown = service.attempt(&["webhook", "tasks"]).await;
    let shown = String::from_utf8(shown.stdout).unwrap();
    let both = shown.lines().find(|line| line.starts_with("/hooks/both")).unwrap();
    assert!(both.contains("s/both") && both.contains("signature, token"), "{shown}");
    assert!(!shown.contains("0123456789abcdef") && !format!("{listed:?}").contains("0123456789abcdef"));
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_a_problem_and_opens_nothing() {
    let mut service = service();
    echo(&service, "unset", "webhook: /hooks/unset, webhook_secret: '${HOOK_UNSET}'");
    echo(&service, "short", "webhook: /hooks/short, bearer: '${HOOK_SHORT}'");
    echo(&service, "asks", "webhook: /hooks/asks, bearer: '${HOOK_OTHER}'");
    echo(&service, "good", "webhook: /hooks/good, webhook_secret: '${HOOK_SECRET}'");
    let client = service.start().await;
    until_served(&client, "s/good", "/hooks/good").await;
    let told = async |id: &str, reason: &str| {
        let unit = client.unit_until(id, "is told", |unit| condition(unit, "Stalled").contains(reason)).await;
        assert!(unit["hook"].is_null());
        condition(&unit, "Ready")
    };
    let unset = told("s/unset", "MissingSecret").await;
    assert!(
        unset.contains(
            "unset/task.yaml:5:20: `trigger.webhook_secret` names the variable `HOOK_UNSET`, which is not set"
        ),
        "{unset}"
    );
    let short = told("s/short", "MissingSecret").await;
    assert!(short.contains("`HOOK_SHORT`, whose value is shorter than 16 bytes"), "{short}");
    let asks = told("s/asks", "NotAllowed").await;
    assert!(
        asks.contains("allow: {env: [HOOK_SECRET, HOOK_TOKEN, HOOK_SHORT, HOOK_UNSET, HOOK_OTHER]}"),
        "{asks}"
    );
    for name in ["unset", "short", "asks"] {
        assert_eq!(get(&client, &format!("/hooks/{name}")).await.status, 404);
    }
    // A start without the variable keeps the version that was live, and closes it.
    service.terminate().await;
    let mut service = service.through(&["env"]);
    let client = service.start().await;
    let unit = client
        .unit_until("s/good", "is told", |unit| condition(unit, "Ready").contains("MissingSecret"))
        .await;
    assert!(condition(&unit, "Ready").contains("still running"), "{unit}");
    for headers in [vec![], vec![("X-Hub-Signature-256", sign("", b""))]] {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(call(&client, "GET", "/hooks/good", &headers, b"").await.status, 401);
    }
}

#[tokio::test]
async fn without_secret_and_token_only_programs_of_this_machine_call() {
    let mut service = service();
    echo(&service, "a", "webhook: /hooks/a");
    echo(&service, "b", "webhook: /hooks/b");
    let client = service.start().await;
    until_served(&client, "s/a", "/hooks/a").await;
    until_served(&client, "s/b", "/hooks/b").await;
    let own = format!("http://{}", client.address());
    let foreign = [
        ("Host", "hooks.example.org"),
        ("Forwarded", "for=8.8.8.8"),
        ("X-Forwarded-For", "8.8.8.8"),
        ("X-Forwarded-Host", "hooks.example.org"),
        ("Via", "1.1 proxy"),
        ("Origin", "https://example.org"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ];
    for header in foreign {
        let reply = call(&client, "POST", "/hooks/a", &[header], b"x").await;
        assert_eq!(
            (reply.status, reply.json()["code"].as_str()),
            (403, Some("Forbidden")),
            "{header:?}: {reply:?}"
        );
    }
    for header in [("Host", "localhost"), ("Origin", own.as_str()), ("Sec-Fetch-Site", "same-origin")] {
        assert_eq!(call(&client, "POST", "/hooks/a", &[header], b"x").await.status, 200, "{header:?}");
    }
    // A path that is open is open to all, as soon as the file is saved, and no other one is.
    let text = std::fs::read_to_string(service.configuration()).unwrap();
    let open = text.replace("server: {", "server: {open_hooks: [/hooks/a], ");
    std::fs::write(service.configuration(), open).unwrap();
    until("it is open", async || {
        (call(&client, "POST", "/hooks/a", &[foreign[0]], b"x").await.status == 200).then_some(())
    })
    .await;
    for header in foreign {
        assert_eq!(call(&client, "POST", "/hooks/a", &[header], b"x").await.status, 200, "{header:?}");
        assert_eq!(call(&client, "POST", "/hooks/b", &[header], b"x").await.status, 403, "{header:?}");
    }
    std::fs::write(service.configuration(), text).unwrap();
    until("it is closed", async || {
        (call(&client, "POST", "/hooks/a", &[foreign[0]], b"x").await.status == 403).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_suspended_task_takes_no_calls() {
    let mut service = service();
    echo(&service, "a", "webhook: /hooks/a");
    let client = service.start().await;
    until_served(&client, "s/a", "/hooks/a").await;
    client.post("/api/v1/suspend", json!({"subject": "s/a", "reason": "lunch"})).await;
    let reply = get(&client, "/hooks/a").await;
    assert_eq!((reply.status, reply.json()["message"].as_str()), (503, Some("the task is suspended")));
    assert_eq!(call(&client, "GET", "/hooks/a", &[("Via", "1.1 proxy")], b"").await.status, 403);
    client.post("/api/v1/resume", json!({"subject": "s/a"})).await;
    assert_eq!(get(&client, "/hooks/a").await.status, 200);
}

/// What a repository asks for is known by the service alone.
#[tokio::test]
async fn check_asks_the_service_what_units_of_repositories_lack() {
    let repo = Repo::new();
    let task = |name: &str, trigger: &str| {
        repo.write(&format!("{name}/task.yaml"), &manifest(name, trigger));
        repo.write(&format!("{name}/task.sh"), "echo\n");
    };
    task("unset", "webhook: /hooks/a, bearer: '${HOOK_UNSET}'");
    task("forbidden", "webhook: /hooks/b, bearer: '${HOOK_ELSE}'");
    task("good", "webhook: /hooks/c, bearer: '${HOOK_TOKEN}'");
    repo.commit("all");
    repo.push();
    let text = format!("sources: [{{name: s, git: {{url: {}}}, {ALLOWED}}}]\n", repo.bare().display());
    let mut service = Service::new(&text).through(&[&["env"][..], &VARIABLES].concat());
    let client = service.start().await;
    client.unit_until("s/unset", "is told", |unit| condition(unit, "Ready").contains("MissingSecret")).await;
    let output = service.attempt(&["check", "-o", "json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let fails = found["items"].as_array().unwrap().iter().filter(|item| item["status"] == "fail");
    let told: Vec<String> = fails.map(|item| format!("{}: {}", item["check"], item["message"])).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("\"trust\": \"s/forbidden: ") && told[0].contains("HOOK_ELSE"), "{told:?}");
    assert!(
        told[1].starts_with("\"task webhook\": \"s/unset: ") && told[1].contains("HOOK_UNSET"),
        "{told:?}"
    );
}
