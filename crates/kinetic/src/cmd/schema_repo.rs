//! `kinetic schema init|notify` and the hook that checks every push.

use std::path::Path;

use anyhow::{Context, Result, bail};
use kinetic_amqp::Publisher;
use kinetic_replica::{Author, Files};
use kinetic_schema::Loaded;
use kinetic_schema::edit::Literal;
use kinetic_wire::{Envelope, SchemaNotice, encode, names};
use sha2::{Digest, Sha256};

use crate::{cli, node, term, topology};

/// How long the broker may take to confirm a notice.
const NOTIFY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// A key's secret: 192 random bits. Only its hash goes into the schema.
pub(crate) fn new_secret() -> String {
    node::hex(&rand::random::<[u8; 24]>())
}

/// The hash that stands in the schema for a secret, with a salt of its own.
pub(crate) fn salted_sha256(secret: &str) -> String {
    with_salt(secret, rand::random())
}

fn with_salt(secret: &str, salt: [u8; 4]) -> String {
    node::hex(&salt) + &node::hex(&Sha256::new().chain_update(salt).chain_update(secret).finalize())
}

/// `kinetic.hcl` of a new repository.
const INSTALLATION: &str = "\
# The installation: regions (a broker and its vhost each) and how mail leaves.
# A region without `amqp` is served by this installation's own broker.
region \"local\" {}

# Until there is a mail block, alerts are kept in history and not mailed.
# mail {
#   relay         = \"smtp.example.com:587\"
#   from          = \"Kinetic <alerts@example.com>\"
#   username      = \"alerts@example.com\"
#   password_file = \"/etc/kinetic/mail-password\"
#   public_url    = \"https://alerts.example.com\" # where links in mails lead: docs/alerting-links.md
# }
";

/// A new customer's `topology.hcl`.
const TOPOLOGY: &str = "\
# What kind of data there is, and which messages carry it.
source \"statsd\" {
  data_type = \"statsd\"
  routing   = [\"statsd.#\"]
}

# Hosts that should behave alike, by the name that each gives itself.
service \"web\" {
  cluster \"frontends\" {
    source  = source.statsd
    members = [\"web-*\"]
  }
}
";

/// A new customer's `alerts.hcl`.
const ALERTS: &str = "\
# One host's mean latency against its peers', every 10 seconds.
analytic \"slow-host\" {
  on     = service.web.cluster.frontends
  metric = \"*.latency\"
  value  = \"mean\"
  window = \"10s\"
  for    = \"3 of 5\"

  rule \"deviates\" {
    deviations = 3
    direction  = \"above\"
    min_feeds  = 11
    min_effect = \"20%\"
  }
}

alert \"on-call\" {
  analytics = [analytic.slow-host]
  to        = [\"oncall@example.com\"]

  # More that an alert may say, each by itself:
  # group_by = \"service\"           # one mail about all clusters of a service
  # during   = [hours.business]    # only then; what it has to say at another time waits
  #
  # match {
  #   severities = [\"warning\", \"critical\"]
  # }
  #
  # escalate {
  #   after = \"30m\"                # unless somebody has acknowledged
  #   to    = [\"lead@example.com\"]
  # }
}

# hours \"business\" {
#   time_zone = \"Europe/Berlin\"
#
#   span {
#     days = \"mon-fri\"
#     from = \"08:00\"
#     to   = \"18:00\"
#   }
# }
";

/// The customer as which nodes publish their health, and the rules about it.
const WATCHING_KINETIC: &str =
    include_str!("../../../../topology-examples/watching-kinetic/customers/kinetic/kinetic.hcl");

/// A customer that is taken in.
pub(crate) struct NewCustomer<'c> {
    pub(crate) name: &'c str,
    /// As the schema refers to it.
    pub(crate) region: &'c str,
    /// As the schema lists them.
    pub(crate) netblocks: &'c [String],
    /// Who is mailed.
    pub(crate) to: &'c str,
    /// Hash of its first key's secret.
    pub(crate) salted_sha256: &'c str,
}

/// Its files: a source, a cluster, a rule worth having, an alert, and the key `first`.
pub(crate) fn customer_files(new: &NewCustomer<'_>) -> Files {
    let NewCustomer { name: customer, region, netblocks, to, salted_sha256 } = new;
    let netblocks = match netblocks {
        [] => String::new(),
        some => format!("  netblocks = {}\n", Literal::List(some.to_vec())),
    };
    let width = if netblocks.is_empty() { 6 } else { 9 };
    let owner = format!(
        "\
customer \"{customer}\" {{
  {:width$} = {region}
{netblocks}  # silent_after = \"10m\" # when nothing at all has come for so long, its alerts say so

  # The login is {customer}.first; its secret was shown once, when this was made.
  key \"first\" {{
    salted_sha256 = \"{salted_sha256}\"
  }}
}}
",
        "region"
    );
    let folder = format!("customers/{customer}");
    let alerts = ALERTS.replace("\"oncall@example.com\"", &Literal::Text((*to).to_owned()).to_string());
    Files::from([
        (format!("{folder}/customer.hcl"), owner.into_bytes()),
        (format!("{folder}/topology.hcl"), TOPOLOGY.as_bytes().to_vec()),
        (format!("{folder}/alerts.hcl"), alerts.into_bytes()),
    ])
}

/// What a new repository holds: one region on this machine's broker, one customer, one rule worth having.
pub(crate) fn starter(customer: &str, salted_sha256: &str) -> Files {
    let (region, to) = ("region.local", "oncall@example.com");
    let mut files =
        customer_files(&NewCustomer { name: customer, region, netblocks: &[], to, salted_sha256 });
    files.insert("kinetic.hcl".to_owned(), INSTALLATION.as_bytes().to_vec());
    files.insert("customers/kinetic/kinetic.hcl".to_owned(), WATCHING_KINETIC.as_bytes().to_vec());
    files
}

/// The hook: this binary checks what is pushed.
pub(crate) fn hook_text() -> Result<String> {
    let binary = std::env::current_exe().context("cannot tell where this binary is")?;
    Ok(kinetic_replica::pre_receive_hook(&binary))
}

/// Who commits what this program writes.
pub(crate) fn author() -> Author {
    Author::new("Kinetic", "kinetic@localhost")
}

/// `kinetic schema init DIR`
pub(crate) fn init(dir: &Path, customer: &str) -> Result<u8> {
    let secret = new_secret();
    let files = starter(customer, &salted_sha256(&secret));
    let Loaded { schema, diagnostics } = kinetic_schema::load(&files);
    if schema.is_none() {
        bail!(
            "`{customer}` cannot be a customer:\n{}",
            kinetic_schema::render(&diagnostics, &files, false, 100)
        );
    }
    kinetic_replica::init(dir, &files, &hook_text()?, &author())
        .with_context(|| format!("cannot make a schema repository in {}", dir.display()))?;
    let dir = dir.display();
    let style = term::Style::stdout();
    term::say(&format!(
        "{} {dir}: a bare git repository; what is pushed to it is checked first\n\n\
         Login of the first key:  {}\n\
         Its secret, shown once:  {}\n\n\
         Next:\n\
         \x20 git clone {dir} my-schema          # edit, kinetic check, commit, push\n\
         \x20 kinetic client-config {customer} --schema {dir}\n\
         \x20 kinetic up --config kinetic.toml     # with: schema = \"{dir}\"\n",
        style.green("made"),
        style.bold(&format!("{customer}.first")),
        style.bold(&secret),
    ));
    Ok(0)
}

/// `kinetic schema notify`
pub(crate) async fn notify(broker: cli::BrokerAddress, revision: String) -> Result<u8> {
    let address = node::address(&broker, "kinetic schema notify")?;
    let publisher = Publisher::start(address, topology::schema_notices(), 1);
    let envelope = Envelope { kind: Some(names::TYPE_SCHEMA_NOTICE.into()), ..Envelope::default() };
    let body = encode(&SchemaNotice { v: 1, revision });
    let publishing = publisher.publish(names::SCHEMA_EXCHANGE, "", &envelope, body, false);
    tokio::time::timeout(NOTIFY_TIMEOUT, publishing)
        .await
        .context("the broker did not take the notice in time")??;
    publisher.close().await;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_starter_checks_and_warns_only_that_mail_is_to_be_set_up() {
        let files = starter("acme", &salted_sha256("secret"));
        let Loaded { schema, diagnostics } = kinetic_schema::load(&files);
        let codes: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
        let rendered = kinetic_schema::render(&diagnostics, &files, false, 100);
        assert!(schema.is_some() && codes == ["no-mail"], "{rendered}");
    }

    /// A text in which what stands in comments after this line is said.
    fn said(text: &str, after: &str) -> String {
        let (prose, rest) = text.split_once(after).expect("the line is there");
        let lines = rest.lines().map(|line| line.replacen("# ", "", 1).replacen('#', "# ", 1));
        let said: Vec<String> = lines.collect();
        format!("{prose}{after}{}\n", said.join("\n"))
    }

    #[test]
    fn what_the_starter_says_in_comments_checks() {
        let mut files = starter("acme", &salted_sha256("secret"));
        for (name, after) in
            [("kinetic.hcl", "and not mailed.\n"), ("customers/acme/alerts.hcl", "each by itself:\n")]
        {
            let file = files.get_mut(name).expect("it is there");
            *file = said(std::str::from_utf8(file).expect("utf-8"), after).into_bytes();
        }
        let Loaded { schema, diagnostics } = kinetic_schema::load(&files);
        assert!(diagnostics.is_empty(), "{}", kinetic_schema::render(&diagnostics, &files, false, 100));
        let schema = schema.expect("no error");
        let alert = &schema.customers[&"acme".into()].alerts["on-call"];
        assert_eq!((alert.during.len(), alert.escalations.len()), (1, 1));
        assert!(schema.mail.is_some(), "it is said");
    }

    #[test]
    fn the_starter_is_formatted() {
        for (name, text) in starter("acme", &salted_sha256("secret")) {
            let text = String::from_utf8(text).expect("utf-8");
            assert_eq!(kinetic_schema::format(&text).expect("parses"), text, "{name}");
        }
    }

    #[test]
    fn the_secret_is_hashed_as_sha256sum_does() {
        // printf %s kin1abc | sha256sum
        let hash = "6b696e31c22885ba70f56da0e9706d534fd37a12d0aa1fbd3d192be8e85b26996fa4f7c4";
        assert_eq!(with_salt("abc", *b"kin1"), hash);
    }
}
