service "hypervisors" {
  cluster "rack-a" {
    source  = source.collectd
    members = ["kvm-a[0-9]*"]
  }
  cluster "rack-b" {
    source  = source.collectd
    members = ["kvm-b[0-9]*"]
  }
}

service "databases" {
  depends_on = [service.hypervisors]

  cluster "replicas" {
    source  = source.carbon
    members = ["db-{1,2,3,4,5,6,7,8,9,10,11,12}"]
  }
}

analytic "hot-hypervisor" {
  on     = service.hypervisors # each rack by itself
  metric = "load.shortterm"
  window = "1m"
  for    = "5 of 10"

  rule "deviates" {
    deviations = 3
    min_feeds  = 11
    min_effect = "20%"
  }
}

analytic "lagging-replica" {
  on     = [service.databases.cluster.replicas]
  metric = "mysql.seconds_behind"
  value  = "last"
  window = "2m"
  for    = "3 of 5"

  rule "deviates" {
    deviations          = 3
    min_feeds           = 11
    min_effect_absolute = 5 # seconds
  }
}

alert "operations" {
  analytics = [analytic.hot-hypervisor, analytic.lagging-replica]
  to        = "noc@hosting.example"
}
