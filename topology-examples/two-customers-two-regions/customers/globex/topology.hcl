# Names are a customer's own: this `fleet` is not acme's.

source "fleet" {
  data_type  = "statsd"
  gauge_sign = "absolute" # these clients speak DogStatsD
  routing    = ["#"]
}

service "render" {
  cluster "farm" {
    source  = source.fleet
    members = ["node-*", "spot-?"]
  }
}

analytic "stalled-node" {
  on     = service.render
  metric = "frames"
  value  = "count"
  window = "1m"
  for    = "10 of 15"

  rule "deviates" {
    deviations = 3
    direction  = "below"
    min_feeds  = 11
    min_effect = "25%"
  }
}

alert "render-team" {
  analytics = [analytic.stalled-node]
  to        = ["render@globex.example"]
}
