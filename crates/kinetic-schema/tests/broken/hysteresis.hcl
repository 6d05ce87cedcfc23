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
    for    = "5 of 3"

    rule "deviates" {
      deviations = 3
      min_feeds  = 11
    }
  }

  analytic "b" {
    on     = service.checkout.cluster.frontends
    metric = "latency"
    window = "10s"
    for    = "50s"

    rule "deviates" {
      deviations = 3
      min_feeds  = 11
    }
  }

  analytic "c" {
    on     = service.checkout.cluster.frontends
    metric = "latency"
    window = "10s"
    for    = "1 of 65"

    rule "deviates" {
      deviations = 3
      min_feeds  = 11
    }
  }

  alert "team" {
    analytics = [analytic.slow-host]
    to        = ["oncall@acme.example"]
  }
}
