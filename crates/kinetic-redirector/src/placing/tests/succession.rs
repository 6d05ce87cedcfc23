//! What a new leader makes of what it was told as a standby.

use super::*;

/// What a leader knew, told to a standby that becomes the leader.
fn successor(world: &mut World) -> World {
    let mut next = World::listening(world.placing.config.clone(), Arc::clone(world.placing.table.map()));
    let (page, more) = world.placing.page(None, usize::MAX);
    assert!(!more);
    for state in &page {
        next.placing.presume(state);
    }
    next.now = world.now;
    next.epochs.seen(Epoch(1_000_000));
    next.peers = std::mem::take(&mut world.peers);
    next
}

#[test]
fn a_new_leader_knows_who_owns_what_since_when() {
    let mut world = World::new(hasty(), map(1, 30, 0));
    for name in ["a", "b", "c"] {
        world.join(name);
        world.beat_all();
    }
    world.sleep(MINUTE);
    world.placing.config.dwell = 10 * MINUTE;
    world.lose("c");
    world.beat_all();
    let before = world.placing.page(None, usize::MAX).0;
    world.now = world.now + 2 * MINUTE;
    let mut next = successor(&mut world);
    next.placing.config.dwell = 10 * MINUTE;
    assert_eq!(next.placing.owned_by(&NodeId::new("a")), world.owned("a"), "presumed");
    assert_eq!(next.placing.grants(&NodeId::new("a")), [], "but not granted before it has spoken");
    next.join("a");
    next.end_of_listening();
    let after = next.placing.page(None, usize::MAX).0;
    let of = |states: &[SourceState], name: &str| -> Vec<SourceState> {
        let is = |state: &&SourceState| state.owner.as_ref().is_some_and(|owner| owner.node.as_str() == name);
        let mut own: Vec<SourceState> = states.iter().filter(is).cloned().collect();
        own.iter_mut().for_each(|state| {
            if let Some(owner) = &mut state.owner {
                owner.held = true
            }
        });
        own
    };
    let (own, still) = (of(&before, "a"), of(&after, "a"));
    assert!(own.iter().all(|state| still.contains(state)), "same epoch, same moment, same reason");
    let lost: Vec<SourceState> = of(&before, "b");
    let moved = |state: &SourceState| {
        let owner = next.state(&state.source).owner.expect("an owner");
        owner.epoch.0 > 1_000_000 && owner.why == MoveWhy::OwnerLost
    };
    assert!(lost.iter().all(moved), "a presumed owner that did not speak up is lost");
    assert_eq!(next.placing.moves, lost.len() as u64);
    // c's were moved two minutes before the takeover: they rest for the other eight.
    let rested =
        own.iter().filter(|state| state.owner.as_ref().is_some_and(|owner| owner.why == MoveWhy::OwnerLost));
    for state in rested {
        let unit = next.placing.table.find(&state.source).expect("known");
        assert_eq!(next.placing.table.unit(unit).rests_until, next.now.mono + 8 * MINUTE);
    }
}

#[test]
fn of_a_stale_copy_and_an_owner_the_owner_is_believed() {
    let mut world = World::new(hasty(), map(1, 4, 0));
    world.join("a");
    let stale = world.placing.page(None, usize::MAX).0;
    world.join("b");
    world.beat_all();
    world.beat_all();
    let holds: BTreeMap<SourceKey, Epoch> = world.peers[&NodeId::new("b")].holds.clone();
    assert!(!holds.is_empty());
    let mut next = successor(&mut world);
    for state in &stale {
        next.placing.presume(state);
    }
    next.join("b");
    assert_eq!(next.peers[&NodeId::new("b")].holds, holds, "a higher epoch: it is the later owner");
    next.join("a");
    next.end_of_listening();
    next.beat_all();
    assert_eq!(next.owned("a") + next.owned("b"), 4);
    assert_eq!(next.placing.moves, holds.len() as u64, "from whom the copy said to whom it was");
    assert!(next.placing.revokes(&NodeId::new("a")).is_empty());
}

#[test]
fn a_lived_presumed_owner_that_holds_nothing_has_it_again_under_a_new_epoch() {
    let mut world = World::new(PlacingConfig::default(), map(1, 6, 0));
    world.join("a");
    let mut next = successor(&mut world);
    next.peers.clear();
    next.join("a");
    assert_eq!(next.peers[&NodeId::new("a")].holds.len(), 0, "nothing is given while owners are heard");
    next.end_of_listening();
    next.beat("a");
    let holds = &next.peers[&NodeId::new("a")].holds;
    assert_eq!(holds.len(), 6);
    assert!(holds.values().all(|epoch| epoch.0 > 1_000_000), "another process may have the older one");
    assert_eq!(next.placing.moves, 0);
    next.placing.presume_all();
    assert_eq!(next.placing.grants(&NodeId::new("a")), [], "and when it leads anew it listens anew");
    let unknown = SourceState { source: SourceKey::new("acme", "gone"), ..next.state(&source(0)) };
    next.placing.presume(&unknown);
    assert_eq!(next.placing.presumptions_unknown, 1);
    next.placing.presume_gone(&source(0));
    assert_eq!(next.owner(&source(0)), None);
}
