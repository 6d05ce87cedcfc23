region "local" {}

mail {
  relay = "localhost:25"
  from  = "kinetic@example.org"
}

customer "acme" {
  region = region.local

  source "web" {
    data_type = "statsd"
    routing   = ["web.#"]
  }

  source "spare" {
    data_type = "statsd"
    routing   = ["spare.#"]
  }

  service "checkout" {
    cluster "frontends" {
      source  = source.web
      members = ["web-*"]
    }
  }

  analytic "slow-host" {
    on     = service.checkout.cluster.frontends
    metric = "latency"
    window = "10s"
    for    = "3 of 5"

    rule "deviates" {
      deviations = 3
      min_feeds  = 11
    }
  }

  alert "team" {
    to = ["oncall@acme.example"]

    match {
      services = "catalogue"
    }
  }
}
