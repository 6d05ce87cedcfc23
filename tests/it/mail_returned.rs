//! A relay refuses one recipient of two; and mail that it took comes back. The other is told as ever, and what the operators'
//! commands say is so.

#![expect(clippy::disallowed_methods, reason = "a story makes the files that it is about")]

use std::path::Path;

use kinetic_tests::needs::{Need, all_here};
use kinetic_tests::process::{Launch, kinetic};
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::smtp::Mail;
use kinetic_tests::{BrokerKind, World, eventually};
use serde_json::Value;

use crate::common::{Alerts, first_line};

const DEAD: &str = "dead@acme.example";

/// What `kinetic mail` says and how it ends, with a file on its standard input.
fn mail_command(world: &World, words: &[&str], input: &Path) -> (String, Option<i32>) {
    let mut all = vec![kinetic().to_string_lossy().into_owned(), "mail".into()];
    all.extend(words.iter().map(|word| (*word).to_owned()));
    all.extend(world.broker_words());
    let quoted: Vec<String> = all.iter().map(|word| format!("'{word}'")).collect();
    let line = format!("{} < '{}'", quoted.join(" "), input.display());
    let output = Launch::new("/bin/sh").args(["-c".to_owned(), line]).output();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (said.concat(), output.status.code())
}

fn suppressed(world: &World) -> Vec<String> {
    let (said, code) = mail_command(world, &["suppressed", "--json"], Path::new("/dev/null"));
    assert_eq!(code, Some(0), "{said}");
    let reply: Value = serde_json::from_str(&said).expect("one JSON object");
    let all = reply["suppressions"].as_array().expect("a list");
    all.iter().map(|state| state["address"].as_str().expect("an address").to_owned()).collect()
}

/// As a mail server reports that a mail cannot be delivered.
fn report(world: &World, mail: &Mail, name: &str) -> std::path::PathBuf {
    let id = mail.header("message-id").expect("an id");
    let text = format!(
        "From: MAILER-DAEMON@mx.example\r\nTo: {}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; \
         report-type=delivery-status; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n--b\r\n\
         Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\nFinal-Recipient: rfc822; \
         {DEAD}\r\nAction: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 no such user\r\n\r\n--b\r\n\
         Content-Type: text/rfc822-headers\r\n\r\nMessage-ID: {id}\r\n\r\n--b--\r\n",
        mail.from
    );
    let path = world.dir().join(name);
    std::fs::write(&path, text).expect("write the report");
    path
}

#[test]
fn one_recipient_of_two_is_refused_and_what_comes_back_counts() {
    if !all_here("one_recipient_of_two_is_refused_and_what_comes_back_counts", &[Need::Git]) {
        return;
    }
    let acme = Customer::acme(&[Watch::default()]);
    let world = World::start(BrokerKind::Embedded, std::slice::from_ref(&acme));
    let two = format!("to              = [\"oncall@acme.example\", \"{DEAD}\"]");
    world.schema.rewrite("customers/acme/alerts.hcl", "to              = [\"oncall@acme.example\"]", &two);
    let bounces = "  tls   = \"none\"\n  bounces = \"bounces@kinetic.example\"\n";
    world.schema.rewrite("kinetic.hcl", "  tls   = \"none\"\n", bounces);
    world.schema.push();
    world.smtp.disown(&[DEAD]);
    let node = world.alert();
    let alerts = Alerts::of(&world);
    let to = |who: &'static str, about: &'static str| {
        move |mail: &Mail| mail.to == [who] && first_line(mail).contains(about)
    };
    let oncall = |about| world.smtp.wait_for(about, to("oncall@acme.example", about));
    let refused = |count: u64| {
        eventually("the address is refused", || {
            let refused = node.metric("kinetic_alert_refusals_total");
            if refused >= count { Ok(()) } else { Err(refused) }
        });
    };
    alerts.fire("first");
    oncall("first");
    refused(1);
    alerts.fire("second");
    oncall("second");
    refused(2);
    assert_eq!(suppressed(&world), [DEAD]);
    alerts.fire("third");
    let third = oncall("third");
    assert!(third.part("text/plain").contains(&format!("Nothing more is sent to {DEAD}")), "{third:?}");
    assert!(world.smtp.mails().iter().all(|mail| mail.to != [DEAD]), "nothing can have come to it");

    world.smtp.disown(&[]);
    let (said, code) = mail_command(&world, &["unsuppress", DEAD, "--author", "ann"], Path::new("/dev/null"));
    assert!(code == Some(0) && said.starts_with(&format!("{DEAD} is mailed again")), "{said}");
    let mails = ["first", "second"].map(|about| world.smtp.wait_for(about, to(DEAD, about)));
    assert!(mails[0].from.starts_with("bounces+") && mails[0].from == mails[1].from, "{mails:?}");
    let [once, twice] = [0, 1].map(|n| report(&world, &mails[n], &format!("report-{n}.eml")));
    for (path, wanted) in
        [(&once, "counts as one refusal"), (&once, "does not count"), (&twice, "nothing more is sent")]
    {
        let (said, code) = mail_command(&world, &["bounced"], path);
        assert!(code == Some(0) && said.contains(wanted), "{code:?} {said}");
    }
    assert_eq!(suppressed(&world), [DEAD]);
    let (said, code) = mail_command(&world, &["bounced"], &world.dir().join("schema/kinetic.hcl"));
    assert!(code == Some(65) && said.contains("no delivery report"), "{code:?} {said}");
    let stranger = ["bounced", "--recipient", "bounces+0123456789abcdef@kinetic.example"];
    assert_eq!(mail_command(&world, &stranger, &once).1, Some(65));
}
