region "local" {}

mail {
  relay = "localhost:25"
  from  = "kinetic@acme.example"
}

customer "acme" {
  region       = region.local
  silent_after = "1s"

  limits {
    mails_per_hour = 0
  }

  source "web" {
    routing = "#"
  }

  service "checkout" {
    site   = "data centre"
    labels = { "app.name" = "x", team = "", tier = 1 }

    cluster "frontends" {
      source  = source.web
      members = "web-*"
      labels  = ["a"]
    }
  }

  analytic "gone" {
    on     = service.checkout
    metric = "*"

    rule "silent" {
      after = "5m"
    }
  }

  alert "nothing" {
    analytics = []
  }

  alert "slips" {
    to       = "a@acme.example"
    contine  = false
    group_by = "rack"
    match    = { services = "checkout" }
    severity = "critical"
    after    = "5m"
    escalate = "b@acme.example"
  }

  alert "matches" {
    to = "a@acme.example"

    match {
      services   = [service.checkout]
      clusters   = []
      sites      = "[a"
      severities = ["critical", "bad", "critical"]
      labels     = { team = "{", "a/b" = "*" }
    }

    match {}

    match "more" {}
  }

  alert "receivers" {
    continue = "no"

    escalate {
      to = "a@acme.example"
    }

    escalate "boss" {
      after = "30m"
    }

    escalate {
      after = "8d"
      to    = []
    }

    webhook {
      url = "https://x.example"
    }

    webhook "no-address" {}

    webhook "chat" {
      url    = "https://user:secret@chat.example/"
      format = "slack"
    }

    webhook "chat" {
      url = "chat.example/hook"
    }
  }

  escalate {
    after = "1h"
    to    = "x@acme.example"
  }
}
