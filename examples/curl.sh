#!/usr/bin/env bash
# One request to every route of a running service, with curl.
#
#   BASE_URL  where the service is (http://localhost:8000)
#   API_KEY   a key, where the service asks for one
set -euo pipefail

BASE_URL=${BASE_URL:-http://localhost:8000}
AUTHORIZATION=()
if [ -n "${API_KEY:-}" ]; then AUTHORIZATION=(--header "Authorization: Bearer $API_KEY"); fi

get() {
  printf '\n\nGET %s\n' "$1"
  curl --silent --show-error --fail-with-body "${@:2}" "$BASE_URL$1"
}

# A body given with --json is sent as JSON, by POST.
post() {
  printf '\n\nPOST %s\n' "$1"
  curl --silent --show-error --fail-with-body --retry 2 "${AUTHORIZATION[@]}" --json "$2" "$BASE_URL$1"
}

# Is the process alive, and does the model answer?
get /health
get /ready

# Spelling
post /api/spelling/predict '{"text": "How do you spell '\''algorithm'\''?"}'
post /api/spelling/predict/batch '{"items": [{"text": "algorithm"}, {"text": "rhythm"}]}'
post /api/spelling/check '{"word": "algoritm"}'
post /api/spelling/check/batch '{"items": [{"word": "algoritm"}, {"word": "rhythm"}]}'

# Letter counts and positions; "mode" chooses how the model is asked, "verify" adds the true answer.
post /api/position_count/letter_count '{"word": "strawberry", "letter": "r", "mode": "direct", "verify": true}'
post /api/position_count/letter_count/batch \
  '{"items": [{"word": "strawberry", "letter": "r"}, {"word": "banana", "letter": "a"}]}'
post /api/position_count/letter_position '{"word": "strawberry", "position": 3, "mode": "computed", "verify": true}'
post /api/position_count/letter_position/batch \
  '{"items": [{"word": "strawberry", "position": 3}, {"word": "banana", "position": 1}]}'

# Accuracy as JSON, and everything for Prometheus
get /metrics "${AUTHORIZATION[@]}" --header 'Accept: application/json'
get /metrics "${AUTHORIZATION[@]}"
echo
