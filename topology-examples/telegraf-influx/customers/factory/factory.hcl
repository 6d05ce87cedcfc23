customer "factory" {
  region = region.plant

  key "telegraf" {
    salted_sha256 = "4c3241fb34d894b0bca8ec5795f92926fdb31273a7c4923a5e82a0742a434f676ab2e0c3"
    may_declare   = true
  }
}

source "telegraf" {
  data_type  = "influx"
  routing    = ["telegraf"]
  origin_tag = "host"
  precision  = "ns"
  lateness   = "10s" # Telegraf's flush interval
}

service "line-1" {
  cluster "presses" {
    source  = source.telegraf
    members = ["press-*"]
  }
}

# Temperatures of like presses under like load: both sides matter, and 2 of 10 presses may be serviced at a time.
analytic "odd-press" {
  on     = service.line-1.cluster.presses
  metric = "temperature.celsius"
  window = "1m"
  for    = "8 of 10"

  rule "deviates" {
    deviations          = 2.5
    direction           = "both"
    deviation           = "sample"
    min_feeds           = 9
    min_effect_absolute = 3
  }

  description = <<-TEXT
    One press runs hotter or colder than the others of its line.
    Call the shift lead before stopping it.
  TEXT
}

alert "maintenance" {
  analytics     = [analytic.odd-press]
  to            = ["shift-lead@plant.example"]
  send_resolved = false
}

test "a hot press is reported" {
  # Fixtures for `kinetic test`. The block is reserved: it is accepted and kept, and not yet run.
}
