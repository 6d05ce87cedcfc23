region "local" {}

mail {
  relay = "localhost:25"
  from  = "kinetic@localhost"
}

customer "acme" {
  region = region.local

  source "web" {
    routing = ["#"]
  }

  service "checkout" {
    cluster "frontends" {
      source  = source.web
      members = ["web-*"]
    }
  }

  analytic "measures" {
    on     = service.checkout
    metric = "uptime"
    value  = "p95"
    for    = "3 of 5"

    rule "silent" {
      after = "5m"
    }
  }

  analytic "deviates-silently" {
    on     = service.checkout
    metric = "uptime"

    rule "silent" {
      deviations = 3
      each       = "feeds"
    }
  }

  analytic "looks-too-seldom" {
    on     = service.checkout
    metric = "uptime"
    window = "1m"

    rule "silent" {
      after = "30s"
    }
  }

  analytic "too-short" {
    on     = service.checkout
    metric = "uptime"

    rule "silent" {
      after = "500ms"
      each  = "host"
    }
  }

  analytic "silently" {
    on     = service.checkout
    metric = "uptime"
    window = "10s"

    rule "deviates" {
      after = "5m"
    }
  }

  analytic "slip" {
    on     = service.checkout
    metric = "uptime"
    window = "10s"

    rule "silence" {
      after = "5m"
    }
  }

  alert "team" {
    analytics = [
      analytic.measures, analytic.deviates-silently, analytic.looks-too-seldom, analytic.too-short,
      analytic.silently, analytic.slip,
    ]
    to = ["team@acme.example"]
  }
}
