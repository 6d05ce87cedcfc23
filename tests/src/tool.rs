//! Real programs that publish over AMQP: where they are on this machine, and how they are configured.

use std::path::Path;

use crate::process::Launch;

/// Debian's collectd.
pub const COLLECTD: &str = "/usr/sbin/collectd";
const COLLECTD_PLUGINS: &str = "/usr/lib/collectd";

/// Whether collectd is installed with an amqp plugin that can be loaded: it needs `libyajl2`, which Debian only
/// recommends.
#[must_use]
pub fn collectd_is_here() -> bool {
    if !Path::new(COLLECTD).exists() {
        return false;
    }
    let script = format!("! ldd {COLLECTD_PLUGINS}/amqp.so | grep -q 'not found'");
    Launch::new("/bin/sh").args(["-c", &script]).output().status.success()
}

/// A Python 3 that can import a module: the first on the path, or the system's own.
#[must_use]
pub fn python_with(module: &str) -> Option<&'static str> {
    ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        let probe = format!("command -v {python} && {python} -c 'import {module}'");
        Launch::new("/bin/sh").args(["-c", &probe]).output().status.success()
    })
}
