//! What people type. Flags say how a process runs; what the installation is stands in the schema repository.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod alert;
mod bench;
mod broker;
mod ca;
mod client;
mod customer;
mod edge;
mod mail;
mod operator;
mod reconcile;
mod returned;
mod token;
mod trust;

pub(crate) use alert::Alert;
pub(crate) use bench::{Bench, BenchAlert, BenchDrain, BenchPart, BenchRedirector};
pub(crate) use broker::Broker;
pub(crate) use ca::{Ca, CaInit, CaIssue, CaIssueServer, CaList, CaRevoke};
pub(crate) use client::{Canary, DataType, Locate, Tap, TestEvent};
pub(crate) use customer::{
    Checkout, Customer, CustomerList, CustomerNew, Key, KeyNew, KeyRevoke, KeyRotate, NewSecret, OfCustomers,
    Purpose, Role, User, UserNew, UserPassword, UserRemove, UserVerify,
};
pub(crate) use edge::Edge;
pub(crate) use mail::{Mail, MailPreview, MailSubscribe, MailUnsubscribed};
pub(crate) use operator::{
    Ack, DnsZone, DrainNode, End, Episodes, Map, Meant, Silence, SilenceAdd, SilenceEnd, SilenceList,
};
pub(crate) use reconcile::{PlanBroker, Reconcile, Reconciled};
pub(crate) use returned::{MailBounced, MailSuppressed, MailUnsuppress};
pub(crate) use token::{Token, TokenList, TokenNew, TokenShow};
pub(crate) use trust::Trust;

/// Watches fleets: metrics in over AMQP, an e-mail out when one machine stops behaving like its peers.
#[derive(Debug, Parser)]
#[command(name = "kinetic", version, propagate_version = true, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Let the system write this process's memory, secrets in it, to a core file when it crashes, and let debuggers attach
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) allow_core_dumps: bool,
}

const EXAMPLES: &str = "\
Examples:
  kinetic demo                              see it work, up to the e-mail
  kinetic schema init /srv/kinetic/schema   make a schema repository that checks what is pushed
  kinetic check .                           check a schema folder
  kinetic up --config /etc/kinetic          run everything on this machine
  kinetic agent --amqp amqp://acme.first@127.0.0.1/local --password-file key
                                            forward this host's statsd (udp 8125) to it

RUST_LOG=kinetic=debug shows more of what a process does.";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See it work on this machine: a simulated fleet with one slow host, up to the e-mail
    Demo(Demo),
    /// Run everything in one process, for real use on one machine
    Up(Up),
    /// Run the redirector: who analyses whom
    Redirector(Redirector),
    /// Run an analyzer: windows, the cluster analytic
    Analyzer(Analyzer),
    /// Run the alert node: grouping, history, e-mail
    Alert(Alert),
    /// Run the embedded broker
    Broker(Broker),
    /// Forward this host's statsd lines over AMQP
    Agent(Agent),
    /// Check a schema folder: all problems at once, with what to write instead
    Check(Check),
    /// Rewrite schema files in the usual layout
    Fmt(Fmt),
    /// Make and serve schema repositories
    #[command(subcommand)]
    Schema(Schema),
    /// Take customers in, and list them
    #[command(subcommand)]
    Customer(Customer),
    /// Make, list, rotate and revoke customers' keys
    #[command(subcommand)]
    Key(Key),
    /// Those who may log in at the board: their passwords and roles
    #[command(subcommand)]
    User(User),
    /// Make and use a certificate authority, for clients that log in by certificate
    #[command(subcommand)]
    Ca(Ca),
    /// Print what a client needs to publish, for our agent and for common tools
    ClientConfig(ClientConfig),
    /// Look at the mails that alerts send
    #[command(subcommand)]
    Mail(Mail),
    /// Ask the redirector where a customer publishes
    Locate(Locate),
    /// Show what a RabbitMQ lacks, and has too much of, by the schema
    Plan(PlanBroker),
    /// Make a RabbitMQ as the schema wants it: logins, rights, exchanges, queues
    Reconcile(Reconcile),
    /// Keys that sign the tokens of locate, and what a token says
    #[command(subcommand)]
    Token(Token),
    /// Show who analyses what: analyzers, sources, the last moves
    Map(Map),
    /// Relieve an analyzer of its sources, before it is taken down
    #[command(name = "drain")]
    Drain(DrainNode),
    /// Tell nobody of something for a while
    #[command(subcommand)]
    Silence(Silence),
    /// Say that somebody takes care of what fires: no repeats, no escalation
    Ack(Ack),
    /// Show what fires, since when, and who was told
    Episodes(Episodes),
    /// Print the DNS records by which customers find their brokers
    DnsZone(DnsZone),
    /// Watch the decoded samples of a source, live, without taking them from its analyzer
    Tap(Tap),
    /// Send a test event the whole way to an accepted mail, and show where it is or where it stopped
    TestEvent(TestEvent),
    /// Send test events on a schedule, and raise the alarm by another relay when they do not arrive
    Canary(Canary),
    /// Measure: the analyzer against a consumer that only acknowledges
    Bench(Bench),
    /// One measured consumer of `bench`
    #[command(hide = true)]
    BenchDrain(BenchDrain),
    /// Print a shell's completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Called by git
    #[command(subcommand, hide = true)]
    Hook(Hook),
}

/// How to reach a broker.
#[derive(Clone, Debug, Args)]
pub(crate) struct BrokerAddress {
    /// Broker, as amqp[s]://LOGIN@HOST[:PORT][/VHOST]; without a vhost it is `/`. The nodes of a cluster are tried in the
    /// order given, separated by commas or each with --amqp of its own; after the first, login and vhost may be left out
    #[arg(long, value_name = "URL", required = true, value_delimiter = ',')]
    pub(crate) amqp: Vec<String>,
    /// File whose first line is the login's password (mode 600)
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Whom to trust, and who we are
    #[command(flatten)]
    pub(crate) trust: Trust,
}

/// What every long-running role takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Node {
    /// Schema repository: a path, or anything git can fetch
    #[arg(long, value_name = "REMOTE")]
    pub(crate) schema: String,
    /// Branch of the schema repository
    #[arg(long, default_value = "main")]
    pub(crate) branch: String,
    /// Seconds between fetches of the schema repository (a notice on kin.schema fetches at once)
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) fetch_interval: u64,
    /// Folder for what must survive a restart
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Name of this node; the host's name with the role by default
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Where to serve /metrics and /__heartbeat__; port 0 takes a free one and logs it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) metrics: SocketAddr,
    /// Keep the control queues replicated over a RabbitMQ cluster; the same for every role
    #[arg(long)]
    pub(crate) quorum: bool,
}

/// `kinetic demo`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic demo                       watch it, Ctrl-C to stop
  kinetic demo --once --timeout 30   stop when the right e-mail has arrived; exit code 1 if it has not
  kinetic demo --once --json         the same for a script: one JSON object")]
pub(crate) struct Demo {
    /// End once the e-mail about the slow host has arrived and none about a healthy one
    #[arg(long)]
    pub(crate) once: bool,
    /// With --once: give up after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,
    /// Print one JSON object instead of the show (implies --once)
    #[arg(long)]
    pub(crate) json: bool,
    /// Simulated hosts
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(12..=200))]
    pub(crate) hosts: u32,
    /// Keep the demo's files here instead of in a temporary folder
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// `kinetic up`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kinetic schema init /srv/kinetic/schema
  printf 'schema = \"/srv/kinetic/schema\"\\ndata_dir = \"/var/lib/kinetic\"\\n' > kinetic.toml
  kinetic up --config kinetic.toml")]
pub(crate) struct Up {
    /// Configuration file, or a folder that holds kinetic.toml (docs/operations/configuration.md)
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) config: PathBuf,
    /// Use this RabbitMQ instead of the embedded broker: amqp[s]://LOGIN@HOST[:PORT][/VHOST]; the nodes of a cluster
    /// separated by commas, tried in order
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub(crate) amqp: Vec<String>,
    /// File with the password of --amqp's login
    #[arg(long, value_name = "FILE", requires = "amqp")]
    pub(crate) password_file: Option<PathBuf>,
    /// Whom to trust there, and who we are
    #[command(flatten)]
    pub(crate) trust: Trust,
}

/// `kinetic redirector`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kinetic redirector --amqp amqps://kinetic@rabbit.example/prod --password-file pw \\
      --schema https://git.example/schema.git --data-dir /var/lib/kinetic-redirector")]
pub(crate) struct Redirector {
    /// How to reach the broker
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// The node
    #[command(flatten)]
    pub(crate) node: Node,
    /// How to lead
    #[command(flatten)]
    pub(crate) lease: Lease,
    /// Start and stop analyzers, only say what would be done, or leave it: instead of what the schema's
    /// `provisioner` says (docs/operations/provisioning.md)
    #[arg(long, value_name = "MODE")]
    pub(crate) provision: Option<Provision>,
    /// File with the login's password at the management APIs of regions, where that is another than --password-file's
    #[arg(long, value_name = "FILE")]
    pub(crate) management_password_file: Option<PathBuf>,
    /// Folder with the keys that sign tokens, NAME.pem each (docs/operations/tokens.md)
    #[arg(long, value_name = "DIR")]
    pub(crate) token_keys: Option<PathBuf>,
}

/// What becomes of the decisions about the size of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Provision {
    /// Carried out
    On,
    /// Logged and counted
    DryRun,
    /// None are made
    Off,
}

/// Lease times.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Lease {
    /// Milliseconds of a lease: an analyzer that is silent for this long, and the grace, loses its sources
    #[arg(long, value_name = "MS", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(200..=600_000))]
    pub(crate) lease_ttl: u64,
    /// Milliseconds after a lease's end before its sources move
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    pub(crate) lease_grace: u64,
}

/// `kinetic analyzer`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kinetic analyzer --amqp amqps://kinetic@rabbit.example/prod --password-file pw \\
      --schema https://git.example/schema.git --data-dir /var/lib/kinetic-analyzer")]
pub(crate) struct Analyzer {
    /// How to reach the broker
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// The node
    #[command(flatten)]
    pub(crate) node: Node,
    /// Serve only these regions (any by default)
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Vec<String>,
    /// Serve only these customers (any by default)
    #[arg(long, value_name = "CUSTOMER")]
    pub(crate) customer: Vec<String>,
    /// Relative capacity
    #[arg(long, default_value_t = 100)]
    pub(crate) capacity: u32,
    /// Failure domain it is in (rack, availability zone): what a zone loses goes to nodes of other zones first
    #[arg(long, value_name = "ZONE")]
    pub(crate) zone: Option<String>,
    /// Leave when standard input, a pipe, is closed: whoever started this has ended
    #[arg(long, hide = true)]
    pub(crate) until_stdin_ends: bool,
}

/// `kinetic agent`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic agent --amqp amqp://acme.first@127.0.0.1/local --password-file key
  kinetic agent --amqp amqps://acme.web@broker.example/local --password-file key --statsd 127.0.0.1:8126
  kinetic agent --amqp amqps://broker.example/local --ca-file ca.pem --client-cert host-7.pem --client-key host-7.key
                                            by certificate instead of a key; renewed in place without a gap
  kinetic agent --edge --amqp amqps://kinetic.edge-1@broker.example --password-file key \\
      --schema https://git.example/schema.git --data-dir /var/lib/kinetic-edge \\
      --statsd 0.0.0.0:8125 --carbon 0.0.0.0:2003 --proxy-from 10.0.0.0/28
                                            for networks that do not log in (docs/operations/edge.md)
  echo 'checkout.latency:123|ms' | nc -u -w0 127.0.0.1 8125      # then watch: kinetic tap")]
pub(crate) struct Agent {
    /// How to reach the broker
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// Listen here for statsd datagrams
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8125")]
    pub(crate) statsd: SocketAddr,
    /// Listen on this Unix datagram socket too
    #[arg(long, value_name = "PATH")]
    pub(crate) unixgram: Option<PathBuf>,
    /// What this host is called; its host name by default
    #[arg(long, value_name = "NAME")]
    pub(crate) origin: Option<String>,
    /// Profile to ask the redirector for, as a source of the schema says it; `kinetic locate --profile` tells whether
    /// one does
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,
    /// Routing key of every message; the sources' `routing` patterns look at it
    #[arg(long, value_name = "KEY", default_value = "statsd")]
    pub(crate) routing_key: String,
    /// Bytes of a full message
    #[arg(long, value_name = "BYTES", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(512..=1_048_576))]
    pub(crate) body_bytes: u32,
    /// Milliseconds after which a message goes even if it is not full
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) body_age: u64,
    /// Mebibytes kept while the broker is away; beyond that new lines are dropped and counted
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub(crate) buffer: u32,
    /// Where to serve /metrics and /__heartbeat__
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) metrics: SocketAddr,
    /// Lines of all customers
    #[command(flatten)]
    pub(crate) edge: Edge,
}

/// `kinetic check`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic check                     the folder you are in
  kinetic check my-schema --json    for a script: {\"ok\": …, \"diagnostics\": […]}")]
pub(crate) struct Check {
    /// Schema folder
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic fmt`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic fmt                       every .hcl file below the folder you are in
  kinetic fmt --check customers     change nothing, say what would change")]
pub(crate) struct Fmt {
    /// Files, or folders to walk
    #[arg(default_value = ".")]
    pub(crate) paths: Vec<PathBuf>,
    /// Change nothing; exit code 1 if something would change
    #[arg(long)]
    pub(crate) check: bool,
}

/// `kinetic schema`
#[derive(Debug, Subcommand)]
pub(crate) enum Schema {
    /// Make a bare schema repository with a first customer and a hook that checks every push
    Init {
        /// Folder to make
        dir: PathBuf,
        /// Name of the first customer
        #[arg(long, default_value = "acme")]
        customer: String,
    },
    /// Tell every node over AMQP that there is a new revision (for a post-receive hook)
    Notify {
        /// How to reach the broker
        #[command(flatten)]
        broker: BrokerAddress,
        /// Commit id
        revision: String,
    },
}

/// `kinetic hook`
#[derive(Debug, Subcommand)]
pub(crate) enum Hook {
    /// Reads `old new ref` lines and refuses a push whose schema does not check
    PreReceive {
        /// Branch that is checked
        #[arg(long, default_value = "main")]
        branch: String,
        /// Whose push this is: it may change no more than that customer's folder. KINETIC_CUSTOMER in the environment,
        /// which an ssh forced command or a web server sets, says the same
        #[arg(long)]
        customer: Option<String>,
    },
}

/// `kinetic client-config`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic client-config acme --schema /srv/kinetic/schema
  kinetic client-config acme --schema . --for telegraf")]
pub(crate) struct ClientConfig {
    /// Customer
    pub(crate) customer: String,
    /// Schema folder or repository
    #[arg(long, value_name = "DIR|REMOTE", default_value = ".")]
    pub(crate) schema: String,
    /// Broker address for regions that name none (host:port of `kinetic up`)
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5672")]
    pub(crate) broker: String,
    /// Only this tool
    #[arg(long = "for", value_name = "TOOL")]
    pub(crate) tool: Option<Tool>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Tools that `client-config` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Tool {
    /// `kinetic agent`
    Agent,
    /// npm statsd with an AMQP backend
    Statsd,
    /// collectd's amqp plugin
    Collectd,
    /// Telegraf's outputs.amqp
    Telegraf,
    /// A Python script
    Pika,
}

impl Lease {
    /// Lease length.
    pub(crate) fn ttl(self) -> Duration {
        Duration::from_millis(self.lease_ttl)
    }

    /// Grace after it.
    pub(crate) fn grace(self) -> Duration {
        Duration::from_millis(self.lease_grace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_broker_may_be_several_nodes() {
        let words = ["kinetic", "locate", "--amqp", "amqp://me@a/v,amqp://b", "--amqp", "amqp://c"];
        let Ok(Command::Locate(args)) = Cli::try_parse_from(words).map(|cli| cli.command) else {
            panic!("it can be read");
        };
        assert_eq!(args.broker.amqp, ["amqp://me@a/v", "amqp://b", "amqp://c"]);
        assert!(Cli::try_parse_from(["kinetic", "locate"]).is_err(), "one must be given");
    }
}
