"""Files that are sound, and secrets to be planted in them. Made up, and put together here so that no scanner takes this for a leak."""

PLANTED = "hunter2-" + "Zq8vN3xK"
TOKEN = "gh" + "p_" + "A1b2C3d4" * 5
SHA = "3f2a1bc93f2a1bc93f2a1bc93f2a1bc93f2a1bc9"
RELEASE = "v1.0.0-3f2a1bc9"

APPLICATION = """\
[application]
name = "shop"

[bases]
PYTHON_BASE = "python:3.12-slim"

[[service]]
name = "api"
kind = "web"
context = "api"
dockerfile = "api/Dockerfile"
replicas = 2
port = 8000
routes = ["/api"]
health = "/health"
variables = ["DATABASE_URL"]
[service.settings]
MODE = "plain"

[[service]]
name = "web"
kind = "web"
context = "web"
dockerfile = "web/Dockerfile"
port = 3000
routes = ["/"]
health = "/healthz"

[migrations]
service = "api"

[[backing]]
name = "db"
image = "postgres:15"
port = 5432
ready = ["pg_isready"]
[backing.settings]
POSTGRES_PASSWORD = "made-up"

[e2e]
command = ["playwright", "test"]
service = "web"
[e2e.settings]
DATABASE_URL = "postgresql://shop:made-up@db/shop"

[[smoke]]
service = "web"
path = "/"

[load]
rate = 10
seconds = 5
paths = ["/"]
"""

PRODUCTION = """\
[environment]
name = "production"
target = "docker-target/production"
after = "staging"

[approval]
policy = "form"
quorum = 1

[traffic]
steps = [10, 50, 100]
watch_seconds = 30
bake_seconds = 30

[watch]
interval_seconds = 5
window_seconds = 60
log_patterns = ["FATAL"]

[[trigger]]
metric = "error_rate"
threshold = 0.05
for_seconds = 120

[variables]
LOG_LEVEL = "INFO"
"""

STAGING = '[environment]\nname = "staging"\ntarget = "staging"\n'
