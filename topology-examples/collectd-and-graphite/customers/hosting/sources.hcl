profile "collectd" {
  data_type = "collectd"
}

profile "carbon" {
  data_type = "graphite"
}

# collectd publishes with the key collectd.<host>.<plugin>.…
source "collectd" {
  profile  = profile.collectd
  routing  = ["collectd.#"]
  lateness = "15s"
}

# Carbon puts the host into the metric's name: servers.db-3.mysql.threads is mysql.threads of db-3.
source "carbon" {
  profile          = profile.carbon
  routing          = ["servers.#"]
  name             = "servers.{origin}.{metric}"
  lateness         = "30s"
  max_length       = 500000
  max_length_bytes = "512MiB"
}
