//! Reports as mail servers write them, and what is none.

use proptest::prelude::*;

use super::*;

const TOKEN: &str = "53f1a0c2b7e4d886";
const ID: &str = "k1.acme.26c296b68b5bb2f0.1a1f8d3ea00.1.28a33833@mail.example";

/// As Postfix writes them: `fields` are those of the recipient, `returned` the last part.
fn report(fields: &str, returned: &str) -> String {
    let text = format!(
        "Return-Path: <>\n\
         From: MAILER-DAEMON@mx.example (Mail Delivery System)\n\
         Subject: Undelivered Mail Returned to Sender\n\
         To: bounces+{TOKEN}@mail.example\n\
         Auto-Submitted: auto-replied\n\
         MIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=delivery-status;\n\
         \tboundary=\"1F2A.1795\"\n\
         \n\
         This is a MIME-encapsulated message.\n\
         \n\
         --1F2A.1795\n\
         Content-Description: Notification\n\
         Content-Type: text/plain; charset=us-ascii\n\
         \n\
         I'm sorry to have to inform you that your message could not be delivered.\n\
         \n\
         --1F2A.1795\n\
         Content-Description: Delivery report\n\
         Content-Type: message/delivery-status\n\
         \n\
         Reporting-MTA: dns; mx.example\n\
         X-Postfix-Queue-ID: 1F2A\n\
         {fields}\n\
         \n\
         --1F2A.1795\n\
         {returned}\n\
         --1F2A.1795--\n"
    );
    text.replace('\n', "\r\n")
}

const GONE: &str = "\nFinal-Recipient: rfc822; oncall@acme.example\n\
     Original-Recipient: rfc822;oncall@acme.example\n\
     Action: failed\n\
     Status: 5.1.1\n\
     Remote-MTA: dns; mx.acme.example\n\
     Diagnostic-Code: smtp; 550 5.1.1 <oncall@acme.example>: Recipient address\n    rejected: User unknown";
const HEADERS: &str = "Content-Type: text/rfc822-headers\n\n\
     From: alerts@mail.example\nMessage-ID: <k1.acme.26c296b68b5bb2f0.1a1f8d3ea00.1.28a33833@mail.example>\nTo: oncall@acme.example\n";

#[test]
fn a_report_says_who_and_why() {
    let wanted = Report {
        token: TOKEN.into(),
        mail: Some(ID.into()),
        status: "5.1.1".into(),
        detail: "smtp; 550 5.1.1 <oncall@acme.example>: Recipient address rejected: User unknown".into(),
    };
    assert_eq!(read(report(GONE, HEADERS).as_bytes(), None), Ok(wanted.clone()));
    // Lines may end as on this machine, and the whole message may come back.
    let whole = HEADERS.replace("text/rfc822-headers", "message/rfc822") + "\nweb-7 is slow\n";
    assert_eq!(read(report(GONE, &whole).replace("\r\n", "\n").as_bytes(), None), Ok(wanted.clone()));
    // The envelope's id says which mail it was where nothing of it comes back.
    let fields = format!("Original-Envelope-Id: {}\n{GONE}", ID.replace('.', "+2E"));
    let bare = "Content-Type: text/plain\n\nnothing\n";
    assert_eq!(read(report(&fields, bare).as_bytes(), None), Ok(wanted.clone()));
    let unnamed = Report { mail: None, ..wanted };
    assert_eq!(read(report(GONE, bare).as_bytes(), None), Ok(unnamed));
}

#[test]
fn of_several_recipients_the_worst_counts_and_passing_reasons_are_told_apart() {
    let two =
        format!("\nFinal-Recipient: rfc822; a@acme.example\nAction: relayed\nStatus: 2.0.0 (ok)\n{GONE}");
    assert_eq!(read(report(&two, HEADERS).as_bytes(), None).map(|report| report.status), Ok("5.1.1".into()));
    let late = GONE.replace("failed", "delayed").replace("Status: 5.1.1", "Status: 4.4.1 (still trying)");
    assert_eq!(read(report(&late, HEADERS).as_bytes(), None).map(|report| report.status), Ok("4.4.1".into()));
}

#[test]
fn the_address_to_which_it_came_is_believed_in_order() {
    let elsewhere = report(GONE, HEADERS).replace("To: bounces+53f1a0c2b7e4d886@", "To: postmaster@");
    assert_eq!(read(elsewhere.as_bytes(), None), Err(NoReport::WithoutToken));
    let of =
        |text: &str, recipient: Option<&str>| read(text.as_bytes(), recipient).map(|report| report.token);
    assert_eq!(of(&elsewhere, Some("bounces+00112233445566FF@mail.example")), Ok("00112233445566ff".into()));
    assert_eq!(of(&elsewhere, Some("bounces@mail.example")), Err(NoReport::WithoutToken));
    let delivered = format!("X-Original-To: bounces+00112233445566ff@mail.example\r\n{elsewhere}");
    assert_eq!(of(&delivered, None), Ok("00112233445566ff".into()));
}

#[test]
fn what_is_no_report_is_refused_with_the_reason() {
    let refused = |text: &str| read(text.as_bytes(), None).map(|_| ());
    assert_eq!(refused(""), Err(NoReport::Unreadable));
    let vacation = format!(
        "From: a@b.example\r\nTo: bounces+{TOKEN}@mail.example\r\nSubject: Away\r\n\r\nI am away.\r\n"
    );
    assert_eq!(refused(&vacation), Err(NoReport::OtherMail));
    let quoting = format!("{vacation}\r\nStatus: 5.1.1\r\nAction: failed\r\n");
    assert_eq!(refused(&quoting), Err(NoReport::OtherMail), "words about a status are no status");
    for fields in [
        "",
        "\nFinal-Recipient: rfc822; a@b.example\nAction: failed",
        &GONE.replace("5.1.1\nRemote", "bad\nRemote"),
    ] {
        assert_eq!(refused(&report(fields, HEADERS)), Err(NoReport::WithoutStatus), "{fields}");
    }
}

proptest! {
    /// Whatever is changed in a report, it is read as one or refused: what is taken from it is in form.
    #[test]
    fn nothing_that_comes_in_does_harm(
        cuts in proptest::collection::vec((0..3_000usize, 0..60usize, ".{0,12}"), 0..6),
        recipient in proptest::option::of(".{0,40}"),
    ) {
        let mut text = report(GONE, HEADERS);
        for (at, length, put) in cuts {
            let boundary = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let (from, to) = (boundary(at), boundary(at + length));
            text.replace_range(from..to, &put);
        }
        if let Ok(report) = read(text.as_bytes(), recipient.as_deref()) {
            prop_assert_eq!(report.token.len(), TOKEN_DIGITS);
            prop_assert!(report.detail.len() <= FIELD_BYTES_MAX && !report.detail.chars().any(char::is_control));
            prop_assert!(report.mail.iter().all(|id| id.len() <= FIELD_BYTES_MAX && !id.chars().any(char::is_control)));
            prop_assert_eq!(report.status.split('.').count(), 3);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        prop_assert!(read(&bytes, Some("bounces+53f1a0c2b7e4d886@mail.example")).is_err());
    }
}
