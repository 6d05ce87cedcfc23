//! Postfix's own programs: `smtp-sink`, which misbehaves as it is told, and the whole mail system in a private folder, with TLS,
//! logins, and a mailbox that is a program.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::eventually;
use crate::http::unbase64;
use crate::process::{Launch, Process, free_tcp_port, run};
use crate::rabbit::sweep;

/// Debian's place for it.
const SINK: &str = "/usr/sbin/smtp-sink";
/// Debian's place for the mail system's daemons.
const MASTER: &str = "/usr/lib/postfix/sbin/master";
/// Begins the name of a mail system's folder; the process id of its owner follows.
const PREFIX: &str = "kinetic-postfix-";
/// The login of the stories.
pub const LOGIN: &str = "kinetic";
/// Its password.
pub const PASSWORD: &str = "password-of-the-stories";

/// Whether Debian's `postfix` is installed, and who runs the tests may run it: root, and nobody else.
#[must_use]
pub fn is_here() -> bool {
    let root = Launch::new("/usr/bin/id").args(["-u"]).output().stdout == b"0\n";
    root && [SINK, MASTER].iter().all(|program| Path::new(program).exists())
}

/// A relay that fails as its words say (`man smtp-sink`).
#[derive(Debug)]
pub struct Sink {
    _process: Process,
    address: SocketAddr,
    _dir: TempDir,
}

impl Sink {
    /// One that listens.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn start(words: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("kinetic-sink-").tempdir().expect("tempdir");
        let address = SocketAddr::from(([127, 0, 0, 1], free_tcp_port()));
        let launch = Launch::new(SINK).args(["-u", "nobody"]).args(words.iter().copied());
        let process =
            launch.args([address.to_string(), "64".into()]).start("smtp-sink", &dir.path().join("log"));
        eventually("smtp-sink listens", || TcpStream::connect(address));
        Self { _process: process, address, _dir: dir }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A mail system that relays for its one login, over TLS alone.
#[derive(Debug)]
pub struct Postfix {
    _master: Process,
    port: u16,
    dir: TempDir,
}

impl Postfix {
    /// One that listens. What it takes goes on to `next`; mail to `bounces+…@<domain>` is given to `program` by a pipe.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn start(next: SocketAddr, domain: &str, program: &str) -> Self {
        sweep(PREFIX);
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().expect("tempdir");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let port = free_tcp_port();
        certificate(dir.path());
        let etc = dir.path().join("etc");
        ["etc", "spool", "data"]
            .iter()
            .for_each(|name| std::fs::create_dir(dir.path().join(name)).expect("mkdir"));
        run(Launch::new("/bin/chown").args(["postfix".into(), text(&dir.path().join("data"))]));
        let logins = logins();
        let main = main_cf(dir.path(), domain, next, logins);
        std::fs::write(etc.join("main.cf"), main).expect("write main.cf");
        std::fs::write(etc.join("master.cf"), master_cf(port)).expect("write master.cf");
        std::fs::write(etc.join("aliases"), format!("bounces  \"|{program}\"\n")).expect("write the aliases");
        run(Launch::new("/usr/sbin/postfix").args(["-c".into(), text(&etc), "check".into()]));
        let log = dir.path().join("log");
        let master = Launch::new(MASTER).args(["-c".into(), text(&etc), "-d".into()]).start("postfix", &log);
        eventually("postfix listens", || TcpStream::connect(("127.0.0.1", port)));
        Self { _master: master, port, dir }
    }

    /// Where it takes mail.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The certificate by which its clients know it.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// What it has logged.
    ///
    /// # Panics
    /// If it has no log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("maillog")).expect("the log")
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A certificate for loopback that signs itself, and its key.
fn certificate(dir: &Path) {
    let config = "[req]\ndistinguished_name=name\nprompt=no\nx509_extensions=extensions\n[name]\nCN=localhost\n[extensions]\n\
                  basicConstraints=critical,CA:FALSE\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n";
    std::fs::write(dir.join("openssl.cnf"), config).expect("write");
    let place = |name: &str| text(&dir.join(name));
    run(Launch::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-config"])
        .args([place("openssl.cnf"), "-keyout".into(), place("key.pem"), "-out".into(), place("cert.pem")]));
}

fn main_cf(dir: &Path, domain: &str, next: SocketAddr, logins: SocketAddr) -> String {
    let dir = text(dir);
    format!(
        "compatibility_level = 3.6\nqueue_directory = {dir}/spool\ndata_directory = {dir}/data\n\
         maillog_file = {dir}/maillog\nmaillog_file_prefixes = {dir}\ncommand_directory = /usr/sbin\n\
         daemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\nsetgid_group = postdrop\n\
         myhostname = mx.story.example\nmydestination = {domain}\nmynetworks =\ninet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\nrecipient_delimiter = +\nalias_maps = texthash:{dir}/etc/aliases\nalias_database =\n\
         local_recipient_maps = $alias_maps\nbiff = no\nrelayhost = [{}]:{}\nsmtp_tls_security_level = none\n\
         smtpd_tls_security_level = encrypt\nsmtpd_tls_auth_only = yes\nsmtpd_tls_cert_file = {dir}/cert.pem\n\
         smtpd_tls_key_file = {dir}/key.pem\nsmtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\n\
         smtpd_sasl_path = inet:{logins}\nsmtpd_relay_restrictions = permit_sasl_authenticated, reject\n",
        next.ip(),
        next.port()
    )
}

fn master_cf(port: u16) -> String {
    let services = [
        ("cleanup", "unix  n  -  n  -  0"),
        ("qmgr", "unix  n  -  n  300  1"),
        ("tlsmgr", "unix  -  -  n  1000?  1"),
        ("rewrite", "unix  -  -  n  -  -"),
        ("bounce", "unix  -  -  n  -  0"),
        ("defer", "unix  -  -  n  -  0"),
        ("trace", "unix  -  -  n  -  0"),
        ("verify", "unix  -  -  n  -  1"),
        ("proxymap", "unix  -  -  n  -  -"),
        ("smtp", "unix  -  -  n  -  -"),
        ("relay", "unix  -  -  n  -  -"),
        ("error", "unix  -  -  n  -  -"),
        ("retry", "unix  -  -  n  -  -"),
        ("discard", "unix  -  -  n  -  -"),
        ("local", "unix  -  n  n  -  -"),
        ("anvil", "unix  -  -  n  -  1"),
        ("postlog", "unix-dgram  n  -  n  -  1"),
    ];
    let program = |name: &str| match name {
        "rewrite" => "trivial-rewrite".to_owned(),
        "defer" | "trace" => "bounce".to_owned(),
        "relay" => "smtp".to_owned(),
        "retry" => "error".to_owned(),
        "postlog" => "postlogd".to_owned(),
        own => own.to_owned(),
    };
    let mut text = format!("127.0.0.1:{port}  inet  n  -  n  -  -  smtpd\n");
    services.iter().for_each(|(name, how)| text.push_str(&format!("{name}  {how}  {}\n", program(name))));
    text
}

/// Knows one login: serves the protocol by which Dovecot tells Postfix who may log in.
fn logins() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || answer(socket));
        }
    });
    address
}

fn answer(socket: TcpStream) -> Option<()> {
    let mut out = socket.try_clone().ok()?;
    out.write_all(b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t0123456789abcdef0123456789abcdef\nDONE\n").ok()?;
    for line in BufReader::new(socket).lines() {
        let line = line.ok()?;
        let fields: Vec<&str> = line.split('\t').collect();
        let ["AUTH", id, "PLAIN", ..] = fields[..] else { continue };
        let told = fields.iter().find_map(|field| field.strip_prefix("resp=")).map(unbase64);
        let knows = told == Some(format!("\0{LOGIN}\0{PASSWORD}").into_bytes());
        let reply =
            if knows { format!("OK\t{id}\tuser={LOGIN}\n") } else { format!("FAIL\t{id}\tuser={LOGIN}\n") };
        out.write_all(reply.as_bytes()).ok()?;
    }
    None
}
