//! Who is not reached by mail is reached over HTTP: both formats, signed, tried again under the same name, and told of the
//! end.

use std::path::Path;

use kinetic_tests::hooks::{Hook, HookCatcher};
use kinetic_tests::needs::{Need, all_here};
use kinetic_tests::process::{Launch, run};
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::{Fleet, SLOW_HOST};
use kinetic_tests::{BrokerKind, World, eventually};

use crate::common::is_about;

/// It says how to verify a signature.
const GUIDE: &str = include_str!("../../docs/alerting-webhooks.md");

fn verified(secret: &str, hook: &Hook) -> bool {
    let verify =
        GUIDE.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the code");
    let script = format!(
        "{verify}\nimport sys\nprint(verify({secret:?}, sys.argv[1], sys.argv[2].encode(), tolerance=3600))"
    );
    let args = ["-c", &script, hook.header("kinetic-signature"), &hook.body];
    run(Launch::new("python3").args(args)).trim() == "True"
}

/// What stands in the alert block: both formats, one of them signed.
fn webhooks(pager: &HookCatcher, secret: &Path, own: &HookCatcher) -> String {
    format!(
        "  send_resolved   = true\n\n  webhook \"pager\" {{\n    url         = \"http://{}/v2/alerts?team=a\"\n    \
         secret_file = \"{}\"\n  }}\n\n  webhook \"own\" {{\n    url    = \"http://{}/\"\n    format = \
         \"kinetic\"\n  }}\n",
        pager.address(),
        secret.display(),
        own.address(),
    )
}

#[test]
fn a_receiver_is_told_as_a_mailbox_is() {
    if !all_here("webhooks", &[Need::Git, Need::Python]) {
        return;
    }
    let acme = Customer::acme(&[Watch { hysteresis: "1 of 1", ..Watch::default() }]);
    let world = World::start(BrokerKind::Embedded, std::slice::from_ref(&acme));
    let pager = HookCatcher::start(&[500]);
    let own = HookCatcher::start(&[]);
    let secret = world.secret_file("hook-secret", "the-new-one\nthe-old-one");
    let hooks = webhooks(&pager, &secret, &own);
    for (path, text) in acme.files() {
        world.schema.write(&(path, text.replace("  send_resolved   = false\n", &hooks)));
    }
    world.schema.push();
    let redirector = world.redirector();
    let alert = world.role("alert", "alert", &["--webhook-nets", "127.0.0.0/8"]);
    alert.wait_healthy();
    let analyzer = world.analyzer("analyzer");
    let fleet = Fleet::start(world.customer_address(&acme), "acme", "web");
    fleet.slow_down();
    let told = |catcher: &HookCatcher, count: usize, what: &str| {
        eventually(what, || {
            let hooks = catcher.hooks();
            if hooks.len() >= count { Ok(hooks) } else { Err(hooks) }
        })
    };
    let hooks = told(&pager, 2, "the pager is asked again");
    // What it refused for a while comes again as it was.
    assert_eq!((hooks[0].status, hooks[1].status), (500, 200));
    assert_eq!(hooks[0].header("kinetic-delivery"), hooks[1].header("kinetic-delivery"));
    assert_eq!(hooks[0].body, hooks[1].body);
    let first = &hooks[1];
    assert_eq!(
        (first.path.as_str(), first.header("content-type")),
        ("/v2/alerts?team=a", "application/json")
    );
    assert!(verified("the-new-one", first) && verified("the-old-one", first));
    assert!(!verified("another", first), "any key would do");
    let changed = Hook { body: first.body.replace("firing", "FIRING"), ..first.clone() };
    assert!(!verified("the-new-one", &changed), "any body would do");
    let body = first.json();
    assert_eq!((&body["version"], &body["status"]), (&"4".into(), &"firing".into()));
    assert_eq!(body["alerts"][0]["labels"]["origin"], SLOW_HOST);
    assert_eq!(body["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
    let body = told(&own, 1, "the other receiver is told")[0].json();
    assert_eq!((&body["v"], &body["state"], &body["seq"]), (&1.into(), &"firing".into(), &1.into()));
    assert_eq!(body["firing"][0]["feed"]["origin"], SLOW_HOST);

    fleet.recover();
    let last = |catcher: &HookCatcher, field: &str| {
        eventually("the end is told", || {
            let hooks = catcher.hooks();
            let last = hooks.last().map(Hook::json).unwrap_or_default();
            if last[field] == "resolved" { Ok(last) } else { Err(hooks) }
        })
    };
    let ended = last(&pager, "status");
    assert_eq!(ended["groupKey"], first.json()["groupKey"]);
    assert_eq!(ended["alerts"][0]["fingerprint"], first.json()["alerts"][0]["fingerprint"]);
    assert_eq!(ended["alerts"][0]["status"], "resolved");
    assert_eq!(last(&own, "state")["firing"], serde_json::json!([]));
    let mails = eventually("mail goes out as well", || {
        let mails = world.smtp.inbox();
        if mails.len() >= 2 { Ok(mails) } else { Err(mails.len()) }
    });
    assert!(mails.iter().all(|mail| is_about(mail, SLOW_HOST)));
    eventually("what was posted is counted", || {
        let counted =
            ["accepted", "retried"].map(|name| alert.metric(&format!("kinetic_alert_posts_{name}_total")));
        if counted == [4, 1] { Ok(()) } else { Err(counted) }
    });
    drop((redirector, analyzer));
}
