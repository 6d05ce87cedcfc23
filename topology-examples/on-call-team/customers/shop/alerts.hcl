# Who is told. Alerts are looked at from the first to the last; one with continue = false ends the search.

hours "business" {
  time_zone = "Europe/Berlin" # summer time is kept

  span {
    days = "mon-thu"
    from = "08:30"
    to   = "18:00"
  }

  span {
    days = "fri"
    from = "08:30"
    to   = "16:00"
  }
}

hours "reindexing" {
  time_zone = "UTC"

  span {
    days = ["sat", "sun"]
    from = "23:00"
    to   = "02:30" # on the next day
  }
}

# Canaries are somebody's experiment: one person hears of them, in working hours, and nobody else does.
alert "canaries" {
  to         = "release@shop.example"
  continue   = false
  during     = hours.business
  group_by   = "customer"
  group_wait = "5m"

  match {
    labels = { stage = "test" }
  }
}

# Search looks after itself. While it is indexed anew its hosts fall silent one after the other;
# what is still silent then is told afterwards.
alert "search" {
  to       = "search@shop.example"
  continue = false
  except   = hours.reindexing

  match {
    services = "search"
  }
}

# Whatever wakes somebody: the pager and a mail at once, the lead after half an hour,
# and those above after two, unless somebody acknowledges.
alert "on-call" {
  to              = "oncall@shop.example"
  group_by        = "service" # one mail about all clusters of a service
  group_wait      = "15s"
  repeat_interval = "2h"

  match {
    severities = "critical"
  }

  escalate {
    after = "30m"
    to    = "lead@shop.example"
  }

  escalate {
    after = "2h"
    to    = ["head@shop.example", "deputy@shop.example"]
  }

  webhook "pager" {
    url         = "https://pager.example/v1/alertmanager"
    secret_file = "/etc/kinetic/pager-key"
  }
}

# The payments team reads everything about its hosts, when it is at work.
alert "payments-team" {
  to            = "payments@shop.example"
  during        = hours.business
  group_by      = "site"
  send_resolved = false

  match {
    labels = { team = "payments" }
  }
}

# All that is left: what is not critical goes to a chat and to nobody's inbox.
alert "chat" {
  analytics = analytic.slow-host

  webhook "storefront" {
    url    = "https://chat.example/hooks/storefront"
    format = "kinetic"
  }
}
