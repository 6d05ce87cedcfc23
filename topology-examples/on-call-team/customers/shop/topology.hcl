# Labels and sites say what alerts choose by. A cluster has those of its service, unless it says otherwise.

source "all" {
  data_type = "statsd"
  routing   = ["#"]
}

service "checkout" {
  depends_on = [service.payments]
  site       = "frankfurt"
  labels     = { team = "storefront" }

  cluster "frontends" {
    source  = source.all
    members = ["web-*"]
  }

  cluster "canary" {
    source  = source.all
    members = ["canary-*"]
    labels  = { stage = "test" }
  }
}

service "payments" {
  site   = "frankfurt"
  labels = { team = "payments", tier = "1" }

  cluster "workers" {
    source  = source.all
    members = ["pay-*"]
  }

  cluster "workers-standby" {
    source  = source.all
    members = ["pay2-*"]
    site    = "dublin"
  }
}

service "search" {
  site   = "dublin"
  labels = { team = "storefront" }

  cluster "index" {
    source  = source.all
    members = ["index-*"]
  }
}
