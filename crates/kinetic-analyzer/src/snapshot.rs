//! What goes into a snapshot, which of several counts, and what is left out of one that is too large.

use std::cmp::Reverse;

use kinetic_wire::{
    FeedState, MetricState, SNAPSHOT_VERSION, Snapshot, SourceKey, Wall, WatchState, decode, encode,
};

use crate::plan::Watch;
use crate::verdict::{Firing, Standing};

/// Largest body of a snapshot in bytes; past it feeds are left out (counted).
pub const SNAPSHOT_BYTES_MAX: usize = 4 << 20;

/// The snapshot that counts: of the highest epoch, and within it of the highest number. What is none of this source, or
/// of a version that is not read, is counted in `bad`.
pub(crate) fn newest(bodies: &[&[u8]], source: &SourceKey, bad: &mut u64) -> Option<Snapshot> {
    let mut newest: Option<Snapshot> = None;
    for body in bodies {
        match decode::<Snapshot>(body) {
            Ok(snapshot) if is_readable(&snapshot, source) => {
                if newest.as_ref().is_none_or(|best| rank(best) <= rank(&snapshot)) {
                    newest = Some(snapshot);
                }
            }
            Ok(snapshot) => {
                tracing::warn!(%source, of = %snapshot.source, v = snapshot.v, "not a snapshot that can be read");
                *bad += 1;
            }
            Err(error) => {
                tracing::warn!(%source, %error, bytes = body.len(), "not a snapshot");
                *bad += 1;
            }
        }
    }
    newest
}

fn rank(snapshot: &Snapshot) -> (u64, u64) {
    (snapshot.epoch.0, snapshot.seq)
}

/// Windows are whole multiples of their length from the epoch on; a moment that is none was never closed by us.
fn is_readable(snapshot: &Snapshot, source: &SourceKey) -> bool {
    snapshot.v == SNAPSHOT_VERSION
        && snapshot.source == *source
        && snapshot.lanes.iter().all(|lane| {
            lane.length_ns > 0 && lane.closed_ns.is_none_or(|closed| closed.rem_euclid(lane.length_ns) == 0)
        })
}

/// The body of a snapshot, with the feeds left out that make it too large: first those that do not fire, of them the
/// longest without a verdict first. Returns how many were left out.
pub(crate) fn body(mut snapshot: Snapshot, bytes_max: usize) -> (Vec<u8>, usize) {
    let body = encode(&snapshot);
    if body.len() <= bytes_max {
        return (body, 0);
    }
    let mut candidates: Vec<_> = feeds(&mut snapshot.watches)
        .enumerate()
        .map(|(index, feed)| (feed.f.is_some(), Reverse(feed.q), index, encode(feed).len() + 1))
        .collect();
    candidates.sort_unstable();
    let mut excess = body.len() - bytes_max;
    let mut out = vec![false; candidates.len()];
    let mut left_out = 0;
    for (_, _, index, bytes) in candidates {
        if excess == 0 {
            break;
        }
        out[index] = true;
        left_out += 1;
        excess = excess.saturating_sub(bytes);
    }
    let mut out = out.into_iter();
    for metric in snapshot.watches.iter_mut().flat_map(|watch| &mut watch.metrics) {
        metric.feeds.retain(|_| out.next() == Some(false));
    }
    (encode(&snapshot), left_out)
}

fn feeds(watches: &mut [WatchState]) -> impl Iterator<Item = &mut FeedState> {
    watches.iter_mut().flat_map(|watch| &mut watch.metrics).flat_map(|metric| &mut metric.feeds)
}

/// What is remembered of one feed; `None` where there is nothing. `level` is given where deltas move the gauge.
/// `seen` where the rule asks for that.
pub(crate) fn of_feed(
    origin: &str,
    standing: &Standing,
    level: Option<f64>,
    seen: Option<i64>,
) -> Option<FeedState> {
    if standing.is_blank() && level.is_none() && seen.is_none() {
        return None;
    }
    Some(FeedState {
        o: origin.to_owned(),
        w: standing.windows,
        q: standing.quiet,
        f: standing.firing.map(|firing| (firing.since.0, firing.said.0)),
        l: level.map(|level| level.to_string()),
        s: seen,
    })
}

/// The other way round: where the feed stands, and its level.
pub(crate) fn to_feed(state: &FeedState) -> (Standing, Option<f64>) {
    let firing = state.f.map(|(since, said)| Firing { since: Wall(since), said: Wall(said) });
    let level = state.l.as_deref().and_then(|text| text.parse().ok()).filter(|level: &f64| level.is_finite());
    (Standing { windows: state.w, quiet: state.q, firing }, level)
}

/// A question with nothing remembered yet.
pub(crate) fn of_watch(watch: &Watch) -> WatchState {
    WatchState {
        analytic: watch.analytic.name.clone(),
        service: watch.on.service.clone(),
        cluster: watch.on.cluster.clone(),
        digest: watch.digest.clone(),
        length_ns: watch.length,
        value_kind: watch.value_kind().to_owned(),
        direction: watch.direction(),
        of: watch.analytic.hysteresis.of,
        metrics: Vec::new(),
    }
}

/// Whether what was remembered answers this question.
pub(crate) fn is_of(state: &WatchState, watch: &Watch) -> bool {
    state.analytic == watch.analytic.name
        && state.service == watch.on.service
        && state.cluster == watch.on.cluster
        && state.digest == watch.digest
}

/// Digest of all that a watch asks ([`Watch::is_same`] compares the same): FNV-1a, 64 bits, over text. A version that
/// writes rules otherwise takes them for changed, which ends their standing alerts once rather than carrying an answer
/// over to another question.
pub(crate) fn digest(watch: &Watch) -> String {
    let analytic = &watch.analytic;
    let members: Vec<&str> = watch.members.iter().map(|glob| glob.pattern.as_ref()).collect();
    let text = format!(
        "{:?} {:?} {:?} {:?} {} {:?}",
        members, analytic.metric.pattern, analytic.value, watch.rule, watch.length, analytic.hysteresis
    );
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// One metric with its feeds.
pub(crate) fn of_metric(metric: &str, feeds: Vec<FeedState>) -> MetricState {
    MetricState { metric: metric.to_owned(), feeds }
}

#[cfg(test)]
mod tests {
    use kinetic_wire::{Direction, Epoch, LaneState};

    use super::*;

    fn snapshot(epoch: u64, seq: u64) -> Snapshot {
        Snapshot {
            v: 1,
            source: SourceKey::new("acme", "web"),
            epoch: Epoch(epoch),
            seq,
            node: "a1".into(),
            schema: None,
            lanes: vec![LaneState { length_ns: 10, closed_ns: Some(100) }],
            watches: vec![],
            moved: None,
        }
    }

    #[test]
    fn the_highest_epoch_counts_then_the_highest_number() {
        let other = Snapshot { source: SourceKey::new("acme", "db"), ..snapshot(9, 9) };
        let newer = Snapshot { v: 2, ..snapshot(9, 9) };
        let odd = Snapshot { lanes: vec![LaneState { length_ns: 10, closed_ns: Some(3) }], ..snapshot(9, 9) };
        let bodies = [
            encode(&snapshot(2, 7)),
            encode(&snapshot(3, 5)),
            encode(&snapshot(3, 4)),
            encode(&other),
            encode(&newer),
            encode(&odd),
            b"{\"v\":1".to_vec(),
        ];
        let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        let mut bad = 0;
        assert_eq!(newest(&bodies, &SourceKey::new("acme", "web"), &mut bad), Some(snapshot(3, 5)));
        assert_eq!(bad, 4);
        assert_eq!(newest(&bodies[3..], &SourceKey::new("acme", "web"), &mut bad), None);
    }

    #[test]
    fn what_fires_stays_longest() {
        let feed = |origin: &str, quiet, firing: Option<(i64, i64)>| FeedState {
            o: origin.to_owned(),
            w: 1,
            q: quiet,
            f: firing,
            ..FeedState::default()
        };
        let feeds =
            vec![feed("a", 0, None), feed("b", 2, Some((7, 7))), feed("c", 1, None), feed("d", 2, None)];
        let watch = WatchState {
            analytic: "slow".into(),
            service: "s".into(),
            cluster: "c".into(),
            digest: String::new(),
            length_ns: 10,
            value_kind: "mean".into(),
            direction: Direction::Above,
            of: 3,
            metrics: vec![of_metric("m", feeds)],
        };
        let whole = Snapshot { watches: vec![watch], ..snapshot(1, 1) };
        let size = encode(&whole).len();
        let left = |bytes_max| {
            let (body, left_out) = body(whole.clone(), bytes_max);
            let snapshot: Snapshot = decode(&body).expect("its own encoding");
            let origins: String =
                snapshot.watches[0].metrics[0].feeds.iter().map(|feed| feed.o.as_str()).collect();
            assert_eq!(origins.len() + left_out, 4);
            assert!(body.len() <= bytes_max || origins.is_empty(), "{} of {bytes_max}", body.len());
            origins
        };
        assert_eq!(
            [left(size), left(size - 1), left(size - 40), left(size - 60), left(1)],
            ["abcd", "abc", "ab", "b", ""]
        );
    }
}
