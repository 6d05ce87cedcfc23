# Kinetic watches Kinetic: every process publishes its health as one feed, under its node's name.
# To turn it off, remove this folder; with `disabled = true` it stays for another day.

customer "kinetic" {
  region = region.local
  # disabled = true

  # The whole of it: no process publishes any more, or nothing of it arrives.
  silent_after = "10m"
}

source "health" {
  data_type = "statsd"
  routing   = ["health"]
}

service "kinetic" {
  cluster "nodes" {
    source  = source.health
    members = ["*"]
  }
}

# Analyzers against each other; from three on. One behind its peers holds up what its customers are told.
analytic "analyzer-behind" {
  on          = service.kinetic.cluster.nodes
  metric      = "analyzer.behind_seconds"
  value       = "min"
  window      = "1m"
  for         = "5 of 5"
  description = "it closes windows late: its machine is too busy, or its broker slow. kinetic map shows what it owns, kinetic drain relieves it"

  rule "deviates" {
    deviations          = 1.3
    min_feeds           = 3
    min_effect_absolute = 10
  }
}

analytic "analyzer-memory" {
  on          = service.kinetic.cluster.nodes
  metric      = "analyzer.rss_bytes"
  value       = "min"
  window      = "1m"
  for         = "5 of 5"
  description = "it needs far more memory than its peers: see kinetic_analyzer_series and kinetic_analyzer_deliveries_held"

  rule "deviates" {
    deviations          = 1.3
    min_feeds           = 3
    min_effect          = "50%"
    min_effect_absolute = 500e6
  }
}

analytic "analyzer-leases" {
  on          = service.kinetic.cluster.nodes
  metric      = "analyzer.requests_failed"
  value       = "sum"
  window      = "1m"
  for         = "5 of 5"
  description = "its requests to the redirectors are not answered while its peers' are: see its way to the control vhost"

  rule "deviates" {
    deviations          = 1.3
    min_feeds           = 3
    min_effect_absolute = 2
  }
}

# One process or two of these have no peers to be held against. Each says that a part of it works for as long as that is so:
# a process that has died says nothing, and neither does one whose part fails.
analytic "redirector-fails" {
  on       = service.kinetic.cluster.nodes
  metric   = "healthy.redirector"
  severity = "critical"

  rule "silent" {
    after = "5m"
  }
}

analytic "alert-fails" {
  on       = service.kinetic.cluster.nodes
  metric   = "healthy.alert"
  severity = "critical"

  rule "silent" {
    after = "5m"
  }
}

analytic "history-fails" {
  on       = service.kinetic.cluster.nodes
  metric   = "healthy.history"
  severity = "critical"

  rule "silent" {
    after = "5m"
  }
}

analytic "mail-fails" {
  on          = service.kinetic.cluster.nodes
  metric      = "healthy.mail"
  severity    = "critical"
  description = "mail was not taken for so long; this one has come by another relay, or late"

  rule "silent" {
    after = "5m"
  }
}

analytic "broker-fails" {
  on       = service.kinetic.cluster.nodes
  metric   = "healthy.broker"
  severity = "critical"

  rule "silent" {
    after = "5m"
  }
}

alert "operators" {
  to = "ops@example.com"
}
