region "local" {}

mail {
  relay         = "smtp.example:25"
  from          = "kinetic@acme.example"
  tls           = "none"
  username      = "kinetic"
  password_file = "/etc/kinetic/smtp"
}

customer "acme" {
  region = region.local

  source "web" {
    routing = "#"
  }

  service "checkout" {
    site   = "berlin"
    labels = { team = "payments" }

    cluster "frontends" {
      source  = source.web
      members = "web-*"
    }
  }

  service "search" {
    labels = { team = "search" }

    cluster "index" {
      source  = source.web
      members = "index-*"
    }
  }

  analytic "gone" {
    on     = [service.checkout, service.search]
    metric = "*"

    rule "silent" {
      after = "5m"
    }
  }

  analytic "quiet" {
    on       = service.search
    metric   = "*"
    severity = "info"

    rule "silent" {
      after = "5m"
    }
  }

  hours "spare" {
    time_zone = "UTC"

    span {}
  }

  alert "no-service" {
    to = "a@acme.example"

    match {
      services = "serch"
    }
  }

  alert "no-cluster" {
    to = "a@acme.example"

    match {
      clusters = "db-*"
    }
  }

  alert "no-site" {
    analytics = analytic.quiet
    to        = "a@acme.example"

    match {
      sites = "*"
    }
  }

  alert "no-severity" {
    to = "a@acme.example"

    match {
      severities = "critical"
    }
  }

  alert "no-label" {
    to = "a@acme.example"

    match {
      labels = { tier = "1" }
    }
  }

  alert "no-value" {
    to = "a@acme.example"

    match {
      labels = { team = "payment" }
    }
  }

  alert "nothing-at-once" {
    to = "a@acme.example"

    match {
      services = "search"
      sites    = "berlin"
    }
  }

  alert "slip" {
    to = "a@acme.example"

    match {
      services = ["checkout", "catalog", "cat-*"]
    }
  }

  alert "payments" {
    to       = "a@acme.example"
    continue = false

    match {
      labels = { team = "payments" }
    }
  }

  alert "silences" {
    analytics = analytic.gone
    to        = "a@acme.example"
    continue  = false

    escalate {
      after = "2h"
      to    = "Chief <chief@Acme.example>"
    }

    escalate {
      after = "1h"
      to    = ["chief@acme.example", "Team <a@acme.example>"]
    }

    webhook "plain" {
      url = "http://chat.example:8080/hook"
    }

    webhook "here" {
      url = "http://localhost:8080/hook"
    }
  }

  alert "hidden" {
    analytics = analytic.gone
    to        = "b@acme.example"
  }
}
