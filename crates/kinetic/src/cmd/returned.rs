//! `kinetic mail bounced`, `suppressed` and `unsuppress`: mail that came back, and addresses to which nothing is sent.

use std::io::Read;

use anyhow::Result;
use kinetic_wire::{
    Bounce, Bounced, RpcCode, SuppressionState, SuppressionsQuestion, SuppressionsReply, Unsuppress,
    Unsuppressed, encode, names,
};

use crate::adapter::dsn::{self, REPORT_BYTES_MAX};
use crate::cmd::moment::{author, utc};
use crate::cmd::operator;
use crate::{cli, exit, term};

/// Pages read of the list: as many addresses as an alert node remembers.
const PAGES_MAX: usize = 100;

/// `kinetic mail bounced`: whatever keeps it from an answer is worth another attempt of the mail server.
pub(crate) async fn bounced(args: cli::MailBounced) -> Result<u8> {
    match hand_over(args).await {
        Ok(code) => Ok(code),
        Err(error) => {
            term::complain(&error);
            Ok(exit::TRY_LATER)
        }
    }
}

async fn hand_over(args: cli::MailBounced) -> Result<u8> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(REPORT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > REPORT_BYTES_MAX {
        return refused(&format!("it has more than {REPORT_BYTES_MAX} bytes"));
    }
    let report = match dsn::read(&bytes, args.recipient.as_deref()) {
        Ok(report) => report,
        Err(why) => return refused(&why.to_string()),
    };
    let dsn::Report { token, mail, status, detail } = report;
    let rpc = operator::client(&args.broker, "kinetic mail")?;
    let bounce = Bounce { v: 1, token, mail, status, detail };
    match operator::ask::<Bounced>(&rpc, names::rpc::BOUNCE, encode(&bounce)).await? {
        Ok(reply) if args.json => term::say(&format!("{}\n", serde_json::to_string(&reply)?)),
        Ok(reply) => term::say(&taken(&reply, &bounce.status)),
        Err(no) if matches!(no.code, RpcCode::UnknownAddress | RpcCode::Invalid) => {
            return refused(&no.message);
        }
        Err(no) => anyhow::bail!("the alert node refuses it: {}", no.message),
    }
    Ok(0)
}

fn refused(why: &str) -> Result<u8> {
    term::warn(&format!("kinetic: not taken: {why}\n"));
    Ok(exit::DATA)
}

fn taken(reply: &Bounced, status: &str) -> String {
    let Bounced { address, counted, suppressed, .. } = reply;
    let becomes = match (counted, suppressed) {
        (_, true) => "nothing more is sent to it",
        (true, false) => "it counts as one refusal",
        (false, false) => "it does not count: the reason is a passing one, or this was told before",
    };
    format!("{address}: {status}; {becomes}\n")
}

/// `kinetic mail suppressed`
pub(crate) async fn suppressed(args: cli::MailSuppressed) -> Result<u8> {
    let rpc = operator::client(&args.broker, "kinetic mail")?;
    let question = |after| encode(&SuppressionsQuestion { v: 1, after });
    match operator::ask_all::<SuppressionsReply>(&rpc, names::rpc::SUPPRESSIONS, PAGES_MAX, question).await? {
        Ok(all) => operator::show(args.json, &all, |all| listed(&all.suppressions))?,
        Err(code) => return Ok(code),
    }
    Ok(0)
}

fn listed(suppressions: &[SuppressionState]) -> String {
    if suppressions.is_empty() {
        return "no suppressed addresses\n".to_owned();
    }
    let line = |state: &SuppressionState| {
        format!("{}  since {}\n  {}\n", state.address, utc(state.since_ms), state.detail)
    };
    suppressions.iter().map(line).collect()
}

/// `kinetic mail unsuppress`
pub(crate) async fn unsuppress(args: cli::MailUnsuppress) -> Result<u8> {
    let author = author(args.author.as_deref())?;
    let rpc = operator::client(&args.broker, "kinetic mail")?;
    let body = encode(&Unsuppress { v: 1, address: args.address, author });
    match operator::ask_or_say::<Unsuppressed>(&rpc, names::rpc::UNSUPPRESS, body).await? {
        Ok(reply) if args.json => term::say(&format!("{}\n", serde_json::to_string(&reply)?)),
        Ok(reply) => {
            let SuppressionState { address, since_ms, .. } = &reply.suppression;
            term::say(&format!("{address} is mailed again; it was not since {}\n", utc(*since_ms)));
        }
        Err(code) => return Ok(code),
    }
    Ok(0)
}
