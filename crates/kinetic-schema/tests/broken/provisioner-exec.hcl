provisioner "exec" {
  max     = 0
  start   = "/usr/local/bin/scale up {node}"
  stop    = ["/usr/local/bin/scale", "down", "{name}", "{\"json\": \"{node}\"}"]
  timeout = "2h"
}
