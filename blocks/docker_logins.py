"""Whom an environment's database lets in with one version of a secret, asked by PostgreSQL's own client beside it."""

import json
import re
from collections.abc import Mapping

from blocks.docker_backups import Backups
from delivery.errors import DeliveryError
from delivery.release import Release
from delivery.rotation import Login

# Nothing is written, and nothing that the application waits for is locked. Owning counts too: migrations change tables.
_ASK = r"""
set -euo pipefail
psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 >&2 <<'SQL'
BEGIN READ ONLY;
SET LOCAL statement_timeout = '10s';
SELECT json_build_array('role', session_user);
SELECT json_build_array('right', format('%s on %s', p, c.oid::regclass))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND has_table_privilege(c.oid, p);
SELECT json_build_array('right', format('owner of %s', c.oid::regclass))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
    AND n.nspname <> 'information_schema' AND pg_has_role(c.relowner, 'USAGE');
SELECT json_build_array('right', format('%s on sequence %s', p, c.oid::regclass))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) AS p
  WHERE c.relkind = 'S' AND n.nspname !~ '^pg_' AND has_sequence_privilege(c.oid, p);
SELECT json_build_array('right', format('%s on schema %I', p, nspname))
  FROM pg_namespace CROSS JOIN unnest(ARRAY['USAGE', 'CREATE']) AS p
  WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND has_schema_privilege(oid, p);
SELECT json_build_array('sessions', usename, count(*))
  FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' GROUP BY usename;
COMMIT;
SQL
"""
# In English, as servers speak unless lc_messages says otherwise; in another language it could not be asked, which is never "refused".
_REFUSED = re.compile(
    r"password authentication failed|is not permitted to log in|role \".*\" does not exist|no pg_hba\.conf entry|"
    r"permission denied for database"
)


def login_in(backups: Backups, release: Release, *, variables: Mapping[str, str]) -> Login | None:
    """What the database says to the version of its secret that `release` runs with; None when it refuses it. Raises `DeliveryError` when it
    could not be asked.
    """
    code, said = backups.ask(release, "login", _ASK, variables=variables)
    if code != 0:
        if any(_REFUSED.search(line) for line in said):
            return None
        reason = next((line.strip() for line in reversed(said) if not line.startswith("[")), "it did not answer in time")
        raise DeliveryError(
            f"{backups.replicas.environment.capitalize()}'s database could not be asked whom it lets in: {reason[:300]}",
            next="mend the connection that it names, and look again.",
        )
    told = [json.loads(line) for line in said if line.startswith("[")]
    return Login(
        role=next(str(one[1]) for one in told if one[0] == "role"),
        rights=frozenset(str(one[1]) for one in told if one[0] == "right"),
        sessions={str(one[1]): int(one[2]) for one in told if one[0] == "sessions"},
    )
