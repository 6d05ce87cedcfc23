//! A real mail system between the alert node and the mailboxes: STARTTLS, a login, and the pipe of an alias through which mail
//! that cannot be delivered comes back.

#![expect(clippy::disallowed_methods, reason = "a story makes the files that it is about")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use kinetic_tests::needs::{Need, all_here};
use kinetic_tests::postfix::{LOGIN, PASSWORD, Postfix};
use kinetic_tests::process::kinetic;
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::{BrokerKind, World, eventually};

use crate::common::{Alerts, first_line};

const DEAD: &str = "dead@acme.example";
/// Whom Postfix lets programs of aliases be: `nobody` and its group.
const NOBODY: (u32, u32) = (65_534, 65_534);

/// What the alias runs: the binary and the password where its user can reach them.
fn program(world: &World) -> String {
    let dir = world.dir();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("chmod");
    let binary = dir.join("kinetic");
    if fs::hard_link(kinetic(), &binary).is_err() {
        fs::copy(kinetic(), &binary).expect("copy the binary");
    }
    let words = world.broker_words();
    let [_, address, _, password] = &words[..] else { panic!("{words:?}") };
    let own = dir.join("bounce-password");
    fs::copy(password, &own).expect("copy the password");
    chown(&own, Some(NOBODY.0), Some(NOBODY.1)).expect("chown");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).expect("chmod");
    format!("{} mail bounced --amqp {address} --password-file {}", binary.display(), own.display())
}

#[test]
fn a_relay_with_tls_and_a_login_takes_mail_and_gives_back_what_it_cannot_deliver() {
    let story = "a_relay_with_tls_and_a_login_takes_mail_and_gives_back_what_it_cannot_deliver";
    if !all_here(story, &[Need::Git, Need::Postfix, Need::Python]) {
        return;
    }
    let acme = Customer::acme(&[Watch::default()]);
    let world = World::start(BrokerKind::Embedded, std::slice::from_ref(&acme));
    world.smtp.disown(&[DEAD]);
    let postfix = Postfix::start(world.smtp.address(), "bounces.example", &program(&world));
    let password = world.dir().join("smtp-password");
    fs::write(&password, PASSWORD).expect("write the password");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("chmod");
    let mail = format!(
        "  relay = \"{}\"\n  tls   = \"starttls\"\n  username = \"{LOGIN}\"\n  password_file = \"{}\"\n  \
         bounces = \"bounces@bounces.example\"\n",
        postfix.address(),
        password.display()
    );
    world.schema.rewrite("kinetic.hcl", &format!("  relay = \"{}\"\n", world.smtp.address()), &mail);
    world.schema.rewrite("kinetic.hcl", "  tls   = \"none\"\n", "");
    let two = format!("to              = [\"oncall@acme.example\", \"{DEAD}\"]");
    world.schema.rewrite("customers/acme/alerts.hcl", "to              = [\"oncall@acme.example\"]", &two);
    world.schema.push();
    let node = world.alert_with_roots(&postfix.certificate());
    let alerts = Alerts::of(&world);
    let metric_is = |name: &str, wanted: u64| {
        eventually(name, || {
            let seen = node.metric(name);
            if seen == wanted { Ok(()) } else { Err(format!("{seen}\n{}", postfix.log())) }
        });
    };
    for (about, refusals) in [("first", 1), ("second", 2)] {
        alerts.fire(about);
        let mail = world.smtp.wait_for(about, |mail| first_line(mail).contains(about));
        assert_eq!(mail.to, ["oncall@acme.example"]);
        assert!(mail.from.starts_with("bounces+") && mail.from.ends_with("@bounces.example"), "{mail:?}");
        let received = mail.header("received").expect("Postfix says how it came");
        assert!(received.contains("ESMTPSA"), "over TLS and with a login: {received}");
        // Postfix took the other one as well; what its next relay said of it comes back through the alias.
        metric_is("kinetic_alert_refusals_total", refusals);
    }
    metric_is("kinetic_alert_suppressed", 1);
    metric_is("kinetic_alert_bounces_unknown_total", 0);
}
