//! Schema repositories, made by `kinetic schema init` and pushed to with the git program, as people do it.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::process::{Launch, kinetic, run};

/// The secret of every key in the stories.
pub const SECRET: &str = "the-secret-of-all-stories";
/// Its salted hash: the salt `kin1`, and `printf %s kin1the-secret-of-all-stories | sha256sum`.
const SALTED_SHA256: &str = "6b696e31f6c65c5dd9650d542786aecda5fba015a0c90d9638129eefc470db42f1543974";
/// Where alerts of all stories go.
pub const RECIPIENT: &str = "oncall@acme.example";

/// How a broker keeps the queues of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queues {
    /// On one node.
    Classic,
    /// Replicated over the nodes of a RabbitMQ cluster.
    Quorum,
}

/// A source, a cluster on it, a rule over the cluster and an alert: one thing to watch.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Name of all four.
    pub name: &'static str,
    /// `data_type` of the source.
    pub data_type: &'static str,
    /// Routing pattern of the source.
    pub routing: &'static str,
    /// Into how many parts the source is split.
    pub partitions: u16,
    /// Where the origin stands in metric names.
    pub name_template: Option<&'static str>,
    /// Which origins belong together.
    pub members: &'static str,
    /// Which metrics are judged.
    pub metric: &'static str,
    /// What of them.
    pub value: &'static str,
    /// Length of a window.
    pub window: &'static str,
    /// How many of the last windows must be out of line.
    pub hysteresis: &'static str,
    /// How late a sample may come.
    pub lateness: &'static str,
}

impl Default for Watch {
    /// statsd lines of `web-*`, judged by the mean of each second.
    fn default() -> Self {
        Self {
            name: "web",
            data_type: "statsd",
            routing: "#",
            partitions: 1,
            name_template: None,
            members: "web-*",
            metric: "*",
            value: "mean",
            window: "1s",
            hysteresis: "1 of 5",
            lateness: "500ms",
        }
    }
}

impl Watch {
    fn source(&self) -> String {
        let Self { name, data_type, routing, members, lateness, .. } = self;
        let template =
            self.name_template.map_or_else(String::new, |name| format!("  name      = \"{name}\"\n"));
        let split =
            if self.partitions > 1 { format!("  partitions = {}\n", self.partitions) } else { String::new() };
        format!(
            "source \"{name}\" {{\n  data_type = \"{data_type}\"\n  routing   = [\"{routing}\"]\n  lateness  = \"{lateness}\"\n\
             {split}{template}}}\n\nservice \"{name}\" {{\n  cluster \"hosts\" {{\n    source  = source.{name}\n    \
             members = [\"{members}\"]\n  }}\n}}\n\n"
        )
    }

    fn rule(&self) -> String {
        let Self { name, metric, value, window, hysteresis, .. } = self;
        // Eight feeds can reach 2.6 deviations, so that 2 is within reach of one slow host; healthy ones are all alike.
        format!(
            "analytic \"{name}\" {{\n  on     = service.{name}.cluster.hosts\n  metric = \"{metric}\"\n  \
             value  = \"{value}\"\n  window = \"{window}\"\n  for    = \"{hysteresis}\"\n\n  rule \"deviates\" {{\n    \
             deviations = 2\n    direction  = \"above\"\n    min_feeds  = 6\n    min_effect = \"20%\"\n  }}\n}}\n\n\
             alert \"{name}\" {{\n  analytics       = [analytic.{name}]\n  to              = [\"{RECIPIENT}\"]\n  \
             group_wait      = \"0s\"\n  group_interval  = \"1s\"\n  repeat_interval = \"1h\"\n  send_resolved   = false\n}}\n\n"
        )
    }
}

/// A customer with the key `<name>.web`.
#[derive(Clone, Debug)]
pub struct Customer {
    /// Name.
    pub name: &'static str,
    /// What is watched.
    pub watches: Vec<Watch>,
}

impl Customer {
    /// The customer of most stories.
    #[must_use]
    pub fn acme(watches: &[Watch]) -> Self {
        Self { name: "acme", watches: watches.to_vec() }
    }

    /// The login of its key.
    #[must_use]
    pub fn login(&self) -> String {
        format!("{}.web", self.name)
    }

    /// Its files, by path.
    #[must_use]
    pub fn files(&self) -> Vec<(String, String)> {
        self.files_in("local")
    }

    /// The same of a customer that lives in a region.
    #[must_use]
    pub fn files_in(&self, region: &str) -> Vec<(String, String)> {
        let name = self.name;
        let folder = format!("customers/{name}");
        let own = format!(
            "customer \"{name}\" {{\n  region = region.{region}\n\n  key \"web\" {{\n    salted_sha256 = \
             \"{SALTED_SHA256}\"\n  }}\n}}\n"
        );
        vec![
            (format!("{folder}/customer.hcl"), own),
            (format!("{folder}/topology.hcl"), self.watches.iter().map(Watch::source).collect()),
            (format!("{folder}/alerts.hcl"), self.watches.iter().map(Watch::rule).collect()),
        ]
    }
}

/// The file that describes the installation: one region, and a relay on loopback.
#[must_use]
pub fn installation(vhost: &str, queues: Queues, relay: std::net::SocketAddr) -> (String, String) {
    let queues = match queues {
        Queues::Classic => "classic",
        Queues::Quorum => "quorum",
    };
    let text = format!(
        "region \"local\" {{\n  vhost  = \"{vhost}\"\n  queues = \"{queues}\"\n}}\n\nmail {{\n  relay = \"{relay}\"\n  from  = \
         \"Kinetic <alerts@kinetic.example>\"\n  tls   = \"none\"\n}}\n"
    );
    ("kinetic.hcl".to_owned(), text)
}

/// A bare repository with the hook in it, and a clone to work in.
#[derive(Debug)]
pub struct SchemaRepo {
    bare: PathBuf,
    clone: PathBuf,
}

impl SchemaRepo {
    /// Makes both inside a folder.
    ///
    /// # Panics
    /// If that does not work.
    #[must_use]
    pub fn init(dir: &Path) -> Self {
        let repo = Self { bare: dir.join("schema.git"), clone: dir.join("schema") };
        run(Launch::new(kinetic()).args(["schema", "init", &text(&repo.bare)]));
        run(git().args(["clone", "--quiet", &text(&repo.bare), &text(&repo.clone)]));
        repo
    }

    /// The bare repository, for `--schema`.
    #[must_use]
    pub fn remote(&self) -> String {
        text(&self.bare)
    }

    /// A copy of the bare repository beside it, which hears of nothing until [`SchemaRepo::push_to`]; its address.
    ///
    /// # Panics
    /// If that does not work.
    #[must_use]
    pub fn mirror(&self, name: &str) -> String {
        let mirror = text(&self.bare.with_file_name(name));
        run(git().args(["clone", "--quiet", "--mirror", &text(&self.bare), &mirror]));
        mirror
    }

    /// Brings a mirror up to date.
    ///
    /// # Panics
    /// If that does not work.
    pub fn push_to(&self, mirror: &str) {
        run(self.git(&["push", "--quiet", mirror, "HEAD:main"]));
    }

    /// The clone.
    #[must_use]
    pub fn clone_dir(&self) -> &Path {
        &self.clone
    }

    /// Removes what `schema init` wrote for a beginner.
    ///
    /// # Panics
    /// If that does not work.
    pub fn clear(&self) {
        run(self.git(&["rm", "-r", "--quiet", "."]));
    }

    /// Writes a file in the clone.
    ///
    /// # Panics
    /// If that does not work.
    pub fn write(&self, (path, text): &(String, String)) {
        let path = self.clone.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        std::fs::write(path, text).expect("write");
    }

    /// A file in the clone.
    ///
    /// # Panics
    /// If it is not there.
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.clone.join(path)).expect("the file is there")
    }

    /// Replaces a piece of a file in the clone.
    ///
    /// # Panics
    /// If it is not there, or that does not work.
    pub fn rewrite(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "{path} does not hold {from}:\n{text}");
        self.write(&(path.to_owned(), text.replace(from, to)));
    }

    /// Commits everything and pushes; the push may be refused.
    ///
    /// # Panics
    /// If the commit does not work.
    #[must_use]
    pub fn try_push(&self) -> Output {
        run(self.git(&["add", "--all"]));
        run(self.git(&["commit", "--quiet", "--message", "A change of the schema"]));
        self.git(&["push", "origin", "HEAD:main"]).output()
    }

    /// Commits everything and pushes.
    ///
    /// # Panics
    /// If the push is refused.
    pub fn push(&self) {
        let output = self.try_push();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The commit that the bare repository is at.
    #[must_use]
    pub fn head(&self) -> String {
        let bare = text(&self.bare);
        run(git().args(["--git-dir", &bare, "rev-parse", "main"])).trim().to_owned()
    }

    /// The git program in the clone.
    #[must_use]
    pub fn git(&self, words: &[&str]) -> Launch {
        git().args(["-C".to_owned(), text(&self.clone)]).args(words.iter().copied())
    }
}

/// The git program, away from anybody's own configuration.
fn git() -> Launch {
    Launch::new("git").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").args([
        "-c",
        "user.name=Stories",
        "-c",
        "user.email=stories@localhost",
    ])
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
