//! Remotes behind the git program.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use kinetic_replica::{Replica, ReplicaConfig, ReplicaError};

use crate::{World, git, take};

/// ssh, as far as git cares: runs the last argument here.
fn ssh_stand_in(world: &World, script: &str) -> String {
    let path = world.dir.path().join("ssh");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn ssh_is_followed() {
    let world = World::new();
    let first = world.push("a.hcl", "1");
    let ssh = ssh_stand_in(&world, "#!/bin/sh\nfor last; do :; done\nexec sh -c \"$last\"\n");
    for remote in [
        format!("ssh://git@host{}", world.remote().display()),
        format!("git@host:{}", world.remote().display()),
    ] {
        let dir = world.dir.path().join(format!("replica-{}", remote.len()));
        let config = ReplicaConfig { ssh_command: Some(ssh.clone()), dir, ..ReplicaConfig::new(remote, "") };
        let mut replica = Replica::open(config).unwrap();
        let candidate = take(&mut replica);
        assert_eq!(
            (candidate.revision.0.as_str(), &candidate.files["a.hcl"][..]),
            (first.as_str(), &b"1"[..])
        );
        assert_eq!(replica.fetch().unwrap(), None);
    }
    let mut elsewhere = Replica::open(ReplicaConfig {
        ssh_command: Some(ssh),
        branch: "other".to_owned(),
        ..ReplicaConfig::new(format!("git@host:{}", world.remote().display()), world.dir.path().join("other"))
    })
    .unwrap();
    assert!(matches!(elsewhere.fetch(), Err(ReplicaError::BranchMissing { .. })));
}

#[test]
fn a_hanging_remote_is_given_up_with_all_its_processes() {
    let world = World::new();
    let pids = world.dir.path().join("pids");
    // A grandchild holds on as well.
    let ssh = ssh_stand_in(
        &world,
        &format!("#!/bin/sh\necho $$ >> {0}\nsleep 600 &\necho $! >> {0}\nwait\n", pids.display()),
    );
    let mut replica = Replica::open(ReplicaConfig {
        ssh_command: Some(ssh),
        timeout: Duration::from_secs(1),
        ..ReplicaConfig::new("git@host:x.git", world.dir.path().join("replica"))
    })
    .unwrap();
    let began = Instant::now();
    let error = replica.fetch().unwrap_err();
    assert!(matches!(error, ReplicaError::Timeout { after_s: 1, .. }) && error.is_transient(), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(20));
    for pid in std::fs::read_to_string(pids).unwrap().lines() {
        let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        for _ in 0..100 {
            if gone() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(gone(), "process {pid} still runs");
    }
}

#[test]
fn a_refused_connection_says_so_without_the_password() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let world = World::new();
    let remote = format!("http://bot:hunter2@127.0.0.1:{port}/x.git");
    let mut replica = Replica::open(ReplicaConfig::new(remote, world.dir.path().join("replica"))).unwrap();
    let error = replica.fetch().unwrap_err();
    assert!(matches!(error, ReplicaError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

#[test]
fn git_protocol_is_spoken_by_the_program() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let world = World::new();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // The length first, which may come alone: four hexadecimal digits that count themselves.
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&length).unwrap(), 16).unwrap();
        let mut request = vec![0; length - 4];
        stream.read_exact(&mut request).unwrap();
        String::from_utf8_lossy(&request).into_owned()
    });
    let remote = format!("git://127.0.0.1:{port}/schema.git");
    let mut replica = Replica::open(ReplicaConfig::new(remote, world.dir.path().join("replica"))).unwrap();
    let error = replica.fetch().unwrap_err();
    assert!(matches!(error, ReplicaError::Unreachable { .. }), "{error:?}");
    assert!(asked.join().unwrap().contains("git-upload-pack /schema.git"));
}

#[test]
fn a_damaged_remote_over_ssh_changes_nothing() {
    let world = World::new();
    let first = world.push("a.hcl", "1");
    let ssh = ssh_stand_in(&world, "#!/bin/sh\nfor last; do :; done\nexec sh -c \"$last\"\n");
    let remote = format!("git@host:{}", world.remote().display());
    let config = ReplicaConfig {
        ssh_command: Some(ssh),
        ..ReplicaConfig::new(remote, world.dir.path().join("replica"))
    };
    let mut replica = Replica::open(config).unwrap();
    take(&mut replica);
    let second = world.push("a.hcl", "second");
    let path = crate::object_file(&world.remote(), "main:a.hcl");
    let whole = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(replica.fetch().is_err());
    assert_eq!(replica.current().unwrap().revision.0, first);
    std::fs::write(&path, whole).unwrap();
    assert_eq!(take(&mut replica).revision.0, second);
    git(&world.dir.path().join("replica"), &["fsck", "--strict"]);
}
