# The smallest installation that watches anything: one file, one customer, one machine.
# `kinetic up` serves the region itself, since no broker's address is given.

region "local" {}

mail {
  relay = "localhost:25"
  tls   = "none"
  from  = "kinetic@localhost"
}

customer "home" {
  region = region.local

  key "laptop" {
    # printf %s "change-me" | sha256sum
    salted_sha256 = "29c3851de2186dbdb1bb4193608605e84f33208765b5693b55edd4f730a719a100eeea6f"
  }

  source "hosts" {
    data_type = "statsd"
    routing   = ["#"] # everything this customer publishes
  }

  service "web" {
    cluster "hosts" {
      source  = source.hosts
      members = ["web-*"] # host names, by glob
    }
  }

  analytic "slow-host" {
    on     = service.web.cluster.hosts
    metric = "request.time"
    window = "10s"
    for    = "3 of 5" # windows, so that one slow request is no alert

    rule "deviates" {
      deviations = 3
      min_feeds  = 11 # fewer can never be 3 deviations from their own mean
      min_effect = "5%"
    }
  }

  alert "me" {
    analytics = [analytic.slow-host]
    to        = ["me@example.org"]
  }
}
