//! What a test's stages add up to: it has arrived, or where it stopped, why, and what to look at next. Pure.

use kinetic_wire::{Progress, Stage};

use super::{Step, Test};

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The relay has taken all mails.
    Accepted {
        /// Mails.
        mails: usize,
    },
    /// It has not come so far.
    Stopped(Stopped),
}

/// Where it stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// The stage that was not passed.
    pub(crate) at: Stage,
    /// The last one that was.
    pub(crate) passed: Option<Stage>,
    /// What was said, or that nothing was.
    pub(crate) why: String,
    /// From whom the next word was due.
    pub(crate) awaited: String,
    /// What to look at.
    pub(crate) look: String,
}

/// Whether nothing more can come that matters.
pub(super) fn is_final(steps: &[Step], recipients: Option<&[String]>) -> bool {
    let ended = |to: &String| {
        steps.iter().any(|step| step.to.as_ref() == Some(to) && (is_accepted(step) || is_failed(step)))
    };
    let is_dead = steps.iter().any(|step| step.to.is_none() && is_failed(step));
    is_dead || recipients.is_some_and(|all| all.iter().all(ended))
}

fn is_failed(step: &Step) -> bool {
    step.progress == Progress::Failed
}

fn is_accepted(step: &Step) -> bool {
    step.stage == Stage::Accepted && step.progress == Progress::Passed
}

/// The verdict on a test whose time is up, or of which all has been said.
pub(super) fn of(test: &Test, steps: &[Step], recipients: Option<&[String]>) -> Ending {
    let mails = steps.iter().filter(|step| is_accepted(step)).count();
    if let Some(failed) = steps.iter().find(|step| is_failed(step)) {
        return Ending::Stopped(stopped(test, steps, failed.stage, said(failed)));
    }
    let all = recipients.is_some_and(|all| {
        all.iter().all(|to| steps.iter().any(|step| is_accepted(step) && step.to.as_ref() == Some(to)))
    });
    if all {
        return Ending::Accepted { mails };
    }
    let at = awaited_stage(steps, recipients);
    // The last thing that was said not to work yet, at that stage or on the way to it.
    let is_over =
        |step: &Step| step.to.is_some() && steps.iter().any(|of| is_accepted(of) && of.to == step.to);
    let excuse = steps
        .iter()
        .rev()
        .find(|step| step.progress == Progress::Waits && explains(step.stage, at) && !is_over(step));
    let why = excuse.map_or_else(|| format!("nothing was heard of it within {:?}", test.wait), said);
    Ending::Stopped(stopped(test, steps, at, why))
}

fn said(step: &Step) -> String {
    match &step.to {
        Some(to) => format!("{to}: {}", step.detail),
        None => step.detail.clone(),
    }
}

/// The stage that is to come next: of the recipient who is farthest behind, once there are any.
fn awaited_stage(steps: &[Step], recipients: Option<&[String]>) -> Stage {
    let passed = |step: &&Step| step.progress == Progress::Passed;
    let furthest = |of: &dyn Fn(&Step) -> bool| {
        steps.iter().filter(passed).filter(|step| of(step)).map(|step| step.stage).max()
    };
    let common = furthest(&|step| step.to.is_none());
    let behind = recipients.into_iter().flatten().map(|to| furthest(&|step| step.to.as_ref() == Some(to)));
    let last = common.max(behind.min().flatten());
    let next = Stage::ALL.into_iter().find(|stage| last.is_none_or(|last| *stage > last));
    next.unwrap_or(Stage::Accepted)
}

/// Whether what does not work at one stage explains that another is not reached.
fn explains(waits: Stage, at: Stage) -> bool {
    match waits {
        Stage::Announced => at >= Stage::Stored,
        Stage::Located => matches!(at, Stage::Published | Stage::Delivered),
        other => other >= at || (other, at) == (Stage::Sending, Stage::Accepted),
    }
}

fn stopped(test: &Test, steps: &[Step], at: Stage, why: String) -> Stopped {
    let passed = steps.iter().filter(|step| step.progress == Progress::Passed && step.stage < at);
    let passed = passed.map(|step| step.stage).max();
    let owner = steps.iter().rev().find_map(|step| step.node.as_ref());
    let (customer, source) = (&test.customer, &test.source);
    let analyzer = || {
        owner.map_or_else(|| format!("the owner of {customer}/{source}"), |node| format!("analyzer {node}"))
    };
    let map = format!("kinetic map --customer {customer}");
    let (awaited, look) = match at {
        Stage::Announced => (
            "an alert node".to_owned(),
            "whether an alert node runs, and whether --amqp leads to the control vhost with the login of a node".to_owned(),
        ),
        Stage::Located => ("a redirector".to_owned(), format!("{map}; kinetic locate")),
        Stage::Published => (
            format!("the broker of region {}", test.region),
            format!("that broker, the login, and whether a redirector has declared the queue of {customer}/{source}"),
        ),
        Stage::Delivered => (
            analyzer(),
            format!("{map}: a source without an owner needs an analyzer that can serve it; its queue keeps what comes"),
        ),
        Stage::Decoded | Stage::Judged => (analyzer(), format!("{map}; that analyzer's log")),
        Stage::Alerted => {
            (analyzer(), "that analyzer's connection to the control broker, and the queue kin.alerts".to_owned())
        }
        Stage::Stored => (
            "an alert node".to_owned(),
            "whether an alert node runs and can write its history (/__heartbeat__); the event waits for it in kin.alerts".to_owned(),
        ),
        Stage::Grouped | Stage::Queued => ("the alert node".to_owned(), "the alert node's log and /metrics".to_owned()),
        Stage::Sending => (
            "the alert node".to_owned(),
            "the relays: all may be failing, and waited for (kinetic_alert_relays_failing on /metrics)".to_owned(),
        ),
        Stage::Accepted => {
            ("the mail relay".to_owned(), "the relay's own log, and `mail` in kinetic.hcl".to_owned())
        }
    };
    Stopped { at, passed, why, awaited, look }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kinetic_amqp::Address;

    use super::*;

    fn test() -> Test {
        let address = Address::from_url("amqp://kinetic@127.0.0.1/kinetic").expect("an address");
        Test {
            control: address.clone(),
            ingress: address,
            as_customer: false,
            customer: "acme".into(),
            source: "web".into(),
            partitions: 1,
            routing_key: "web".into(),
            region: "local".into(),
            to: Vec::new(),
            wait: Duration::from_secs(30),
        }
    }

    fn step(stage: Stage, progress: Progress, detail: &str, to: Option<&str>) -> Step {
        let is_analyzers =
            matches!(stage, Stage::Delivered | Stage::Decoded | Stage::Judged | Stage::Alerted);
        Step {
            after_ms: 0,
            stage,
            progress,
            detail: detail.into(),
            node: is_analyzers.then(|| "a1".into()),
            epoch: None,
            to: to.map(str::to_owned),
            relay: None,
            message_id: None,
        }
    }

    /// Every stage up to one, passed; from `Queued` on for these recipients.
    fn up_to(last: Stage, recipients: &[&str]) -> Vec<Step> {
        let stages = Stage::ALL.into_iter().filter(|stage| *stage <= last);
        let each = |stage: Stage| match stage {
            Stage::Queued | Stage::Sending | Stage::Accepted => {
                recipients.iter().map(|to| step(stage, Progress::Passed, "", Some(to))).collect()
            }
            _ => vec![step(stage, Progress::Passed, "", None)],
        };
        stages.flat_map(each).collect()
    }

    const TWO: [&str; 2] = ["a@acme.example", "b@acme.example"];

    fn two() -> Vec<String> {
        TWO.map(str::to_owned).to_vec()
    }

    fn stop(steps: &[Step]) -> Stopped {
        match of(&test(), steps, Some(&two())) {
            Ending::Stopped(stopped) => stopped,
            Ending::Accepted { mails } => panic!("{mails} accepted"),
        }
    }

    #[test]
    fn it_has_arrived_when_the_relay_has_every_mail() {
        let steps = up_to(Stage::Accepted, &TWO);
        assert!(is_final(&steps, Some(&two())));
        assert_eq!(of(&test(), &steps, Some(&two())), Ending::Accepted { mails: 2 });
        let one = &steps[..steps.len() - 1];
        assert!(!is_final(one, Some(&two())));
        assert_eq!((stop(one).at, stop(one).passed), (Stage::Accepted, Some(Stage::Sending)));
        // Who is to be mailed is not known where no alert node has said so.
        assert!(!is_final(&steps, None));
        assert!(matches!(of(&test(), &steps, None), Ending::Stopped(_)));
    }

    #[test]
    fn silence_stops_it_before_every_stage() {
        for (last, next) in Stage::ALL.into_iter().zip(Stage::ALL.into_iter().skip(1)) {
            let stopped = stop(&up_to(last, &TWO));
            assert_eq!((stopped.passed, stopped.at), (Some(last), next));
            assert_eq!(stopped.why, "nothing was heard of it within 30s");
            assert!(!stopped.look.is_empty() && !stopped.awaited.is_empty());
        }
        assert_eq!(stop(&[]).at, Stage::Announced);
    }

    #[test]
    fn a_word_that_was_lost_on_the_way_does_not_matter() {
        let mut steps = up_to(Stage::Stored, &TWO);
        steps.retain(|step| step.stage != Stage::Judged);
        assert_eq!(stop(&steps).at, Stage::Grouped);
    }

    #[test]
    fn what_does_not_work_yet_is_the_reason_where_it_explains_anything() {
        let nobody = step(Stage::Located, Progress::Waits, "nobody owns acme/web", None);
        let mut steps = up_to(Stage::Published, &TWO);
        steps.retain(|step| step.stage != Stage::Located);
        steps.push(nobody.clone());
        assert_eq!((stop(&steps).at, stop(&steps).why.as_str()), (Stage::Delivered, "nobody owns acme/web"));
        let mut later = up_to(Stage::Decoded, &TWO);
        later.push(nobody);
        assert_eq!((stop(&later).at, stop(&later).why.contains("nothing was heard")), (Stage::Judged, true));
        assert_eq!(stop(&later).awaited, "analyzer a1");

        let mut steps = up_to(Stage::Alerted, &TWO);
        steps[0] = step(Stage::Announced, Progress::Waits, "no alert node answers", None);
        assert_eq!((stop(&steps).at, stop(&steps).why.as_str()), (Stage::Stored, "no alert node answers"));

        let mut steps = up_to(Stage::Sending, &TWO);
        steps.push(step(Stage::Accepted, Progress::Waits, "connection refused", Some(TWO[1])));
        steps.push(step(Stage::Accepted, Progress::Passed, "250 ok", Some(TWO[0])));
        assert_eq!(
            (stop(&steps).at, stop(&steps).why.as_str()),
            (Stage::Accepted, "b@acme.example: connection refused")
        );
    }

    #[test]
    fn what_has_failed_is_where_it_stopped() {
        let mut steps = up_to(Stage::Delivered, &TWO);
        steps.push(step(Stage::Decoded, Progress::Failed, "its clock is 30 s ahead", None));
        assert!(is_final(&steps, Some(&two())));
        assert_eq!((stop(&steps).at, stop(&steps).why.as_str()), (Stage::Decoded, "its clock is 30 s ahead"));

        let mut steps = up_to(Stage::Sending, &TWO);
        steps.push(step(Stage::Accepted, Progress::Failed, "550 who", Some(TWO[0])));
        assert!(!is_final(&steps, Some(&two())), "the other one is still on its way");
        steps.push(step(Stage::Accepted, Progress::Passed, "250", Some(TWO[1])));
        assert!(is_final(&steps, Some(&two())));
        assert_eq!(stop(&steps).why, "a@acme.example: 550 who");
    }
}
