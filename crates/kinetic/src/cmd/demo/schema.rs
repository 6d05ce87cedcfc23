//! The schema repository that the demo writes: one customer, twelve hosts or more, one rule.

use std::net::SocketAddr;

use kinetic_replica::Files;

/// The demo's customer.
pub(crate) const CUSTOMER: &str = "shop";
/// The customer's key.
pub(crate) const KEY: &str = "web";
/// Who gets the mail.
pub(crate) const RECIPIENT: &str = "oncall@shop.example";

/// The files. With three deviations of twelve and more feeds healthy hosts stay quiet (one deviation would mail two
/// of them every window), two windows of three keep a hiccup out, and a slow host still stands out.
pub(crate) fn files(salted_sha256: &str, relay: SocketAddr, public_url: &str) -> Files {
    let installation = format!(
        "\
region \"local\" {{}}

mail {{
  relay      = \"{relay}\"
  tls        = \"none\"
  from       = \"Kinetic <alerts@kinetic.example>\"
  public_url = \"{public_url}\"
}}
"
    );
    let customer = format!(
        "\
customer \"{CUSTOMER}\" {{
  region = region.local

  key \"{KEY}\" {{
    salted_sha256 = \"{salted_sha256}\"
  }}
}}
"
    );
    let topology = "\
profile \"web\" {
  data_type = \"statsd\"
}

source \"web\" {
  profile  = profile.web
  routing  = [\"web.#\"]
  lateness = \"500ms\"
}

service \"checkout\" {
  cluster \"frontends\" {
    source  = source.web
    members = [\"web-*\"]
  }
}
";
    let alerts = format!(
        "\
analytic \"slow-host\" {{
  on     = service.checkout.cluster.frontends
  metric = \"checkout.latency\"
  value  = \"mean\"
  window = \"1s\"
  for    = \"2 of 3\"

  rule \"deviates\" {{
    deviations = 3
    direction  = \"above\"
    min_feeds  = 11
    min_effect = \"25%\"
  }}
}}

alert \"checkout-team\" {{
  analytics  = [analytic.slow-host]
  to         = [\"{RECIPIENT}\"]
  group_wait = \"1s\"
}}
"
    );
    let folder = format!("customers/{CUSTOMER}");
    Files::from([
        ("kinetic.hcl".to_owned(), installation.into_bytes()),
        (format!("{folder}/customer.hcl"), customer.into_bytes()),
        (format!("{folder}/topology.hcl"), topology.as_bytes().to_vec()),
        (format!("{folder}/alerts.hcl"), alerts.into_bytes()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::schema_repo;

    #[test]
    fn the_demo_schema_checks() {
        let files =
            files(&schema_repo::salted_sha256("x"), ([127, 0, 0, 1], 25).into(), "http://127.0.0.1:80");
        let loaded = kinetic_schema::load(&files);
        assert!(
            loaded.schema.is_some(),
            "{}",
            kinetic_schema::render(&loaded.diagnostics, &files, false, 100)
        );
    }
}
