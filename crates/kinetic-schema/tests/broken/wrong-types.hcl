region "local" {}

mail {
  relay = "localhost:25"
  from  = "kinetic@example.org"
}

customer "acme" {
  region = region.local

  source "web" {
    data_type  = statsd
    routing    = { web = "#" }
    lateness   = 5
    max_length = "many"
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
    window = true
    for    = "3 of 5"

    rule "deviates" {
      deviations = "3"
      min_feeds = 2.5
    }
  }

  alert "team" {
    analytics     = ["slow-host"]
    to            = [1]
    send_resolved = "yes"
  }
}
