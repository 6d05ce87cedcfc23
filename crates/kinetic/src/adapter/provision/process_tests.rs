//! Children that behave and children that do not, as small shell scripts.

use super::*;

/// What a child may take to leave in these tests.
const TIME: Duration = Duration::from_millis(300);

fn processes(dir: &Path, script: &str) -> Processes {
    let path = dir.join("child.sh");
    file::write_atomically(&path, script.as_bytes()).expect("write");
    let launch = Launch::for_tests("amqp://me@host", dir);
    let mut processes = Processes::new(launch, dir.join("analyzers"));
    processes.program = vec!["/bin/sh".to_owned(), path.to_string_lossy().into_owned()];
    processes.stop_time = TIME;
    processes
}

/// Asks until the list has a shape.
async fn listed(processes: &Processes, expect: &[(&str, Instance)]) {
    let expect: BTreeMap<NodeId, Instance> =
        expect.iter().map(|(node, instance)| ((*node).into(), instance.clone())).collect();
    let mut list = BTreeMap::new();
    for _ in 0..500 {
        list = processes.list().expect("listed");
        if list == expect {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{list:?} and not {expect:?}");
}

/// Ignores whatever it is told, and holds the lock of its data directory as an analyzer does.
const HANGS: &str = "trap '' TERM
while [ $# -gt 0 ]; do
  [ \"$1\" = --data-dir ] && dir=$2
  shift
done
exec 9>\"$dir/lock\"
flock 9
: > \"$dir/up\"
while :; do sleep 0.05 9>&-; done";

fn up(dir: &Path) -> bool {
    dir.join("analyzers/auto-1/up").exists()
}

#[tokio::test]
async fn a_child_that_ends_says_how_and_can_be_started_again() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (processes, node) = (processes(dir.path(), "exit 3"), NodeId::new("auto-1"));
    for _ in 0..2 {
        processes.start(&node).expect("started");
        listed(&processes, &[("auto-1", Instance::Ended("exit code 3".to_owned()))]).await;
        assert!(processes.start(&node).is_err(), "first it is tidied up");
        processes.stop(&node).expect("tidied up");
        listed(&processes, &[]).await;
    }
    processes.stop(&node).expect("nothing to stop is stopped");
}

#[tokio::test]
async fn a_child_leaves_when_it_is_told_and_when_its_lifeline_is_cut() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (first, node) = (processes(dir.path(), "cat > /dev/null; exit 0"), NodeId::new("auto-1"));
    first.start(&node).expect("started");
    listed(&first, &[("auto-1", Instance::Running)]).await;
    first.state().children.get_mut(&node).expect("a child").child.stdin = None;
    listed(&first, &[("auto-1", Instance::Ended("exit code 0".to_owned()))]).await;
    let second = processes(dir.path(), "exec sleep 600");
    second.start(&node).expect("started");
    second.stop(&node).expect("told");
    listed(&second, &[]).await;
}

#[tokio::test]
async fn a_child_that_does_not_leave_is_killed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (processes, node) = (processes(dir.path(), HANGS), NodeId::new("auto-1"));
    processes.start(&node).expect("started");
    while !up(dir.path()) {
        listed(&processes, &[("auto-1", Instance::Running)]).await;
    }
    let told = clock::now().mono;
    processes.stop(&node).expect("told");
    listed(&processes, &[("auto-1", Instance::Ending)]).await;
    listed(&processes, &[]).await;
    assert!(clock::now().mono.since(told) >= TIME, "it had its time");
    processes.start(&node).expect("started again");
    processes.close().await;
    listed(&processes, &[]).await;
}

#[tokio::test]
async fn what_a_former_parent_left_is_found_and_killed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let node = NodeId::new("auto-1");
    let former = processes(dir.path(), HANGS);
    former.start(&node).expect("started");
    while !up(dir.path()) {
        listed(&former, &[("auto-1", Instance::Running)]).await;
    }
    // It was killed: nobody has told the child anything, and nobody will.
    std::mem::forget(former);
    let next = processes(dir.path(), HANGS);
    listed(&next, &[("auto-1", Instance::Ending)]).await;
    listed(&next, &[]).await;
}

#[tokio::test]
async fn a_process_that_only_has_the_number_is_left_alone() {
    let dir = tempfile::tempdir().expect("tempdir");
    let own = std::process::id();
    file::write_atomically(&dir.path().join("pid"), format!("{own}\n").as_bytes()).expect("write");
    let error = kill_orphan(dir.path()).expect_err("that is this test");
    assert!(format!("{error:#}").contains("is another by now"), "{error:#}");
}
