#!/bin/sh
# Two searches on Fashion-MNIST through curl alone: the same request proposed by `rl`, then by `tpe`. Needs a running service.
#   NAS_URL=http://127.0.0.1:8000 TOKEN=$(cat nas-data/admin.token) sh examples/first_searches.sh
set -eu
: "${NAS_URL:=http://127.0.0.1:8000}"
: "${TOKEN:=$(cat nas-data/admin.token)}"
api() { curl -sS --fail-with-body -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" "$@"; }

for strategy in rl tpe; do
    id=$(api "$NAS_URL/v1/searches" -H "Idempotency-Key: first-searches-$strategy" -d '{
      "name": "garments by '$strategy'",
      "dataset": {"name": "fashion-mnist", "validation_fraction": 0.2, "max_train": 10000, "max_validation": 2000},
      "space": {"name": "mbconv", "stages": 3, "depths": [1, 2], "widths": [16, 24], "kernels": [3, 5], "expansions": [1, 3]},
      "strategy": {"name": "'$strategy'"},
      "scheduler": {"name": "asha", "min_epochs": 1, "max_epochs": 6, "reduction_factor": 2},
      "recipe": {"batch_size": 64, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": true},
                 "schedule": {"name": "cosine"}, "augmentation": "crop-flip"},
      "budget": {"max_trials": 20},
      "finalists": {"top_k": 2, "epochs": 12, "seeds": [0]},
      "resources": {"max_parallel": 2},
      "reuse": "search",
      "seed": 7
    }' | sed 's/.*"id":"\([^"]*\)".*/\1/')
    echo "search $id by $strategy"
    while :; do
        search=$(api "$NAS_URL/v1/searches/$id")
        case "$search" in
            *'"state":"succeeded"'*) break ;;
            *'"state":"failed"'* | *'"state":"cancelled"'*) echo "$search"; exit 1 ;;
        esac
        sleep 2
    done
    api "$NAS_URL/v1/searches/$id" | python3 -c '
import json, sys
s = json.load(sys.stdin)
w, p = s["winner"], s["progress"]
print("  trials    ", p["counted"], p["states"])
print("  worked    ", round(s["used_seconds"]), "s")
print("  best      ", round(s["best"]["values"][0], 4), "validation accuracy after", s["best"]["epoch"], "epochs, trial", s["best"]["number"])
print("  winner    ", "trial", w["trial"], "validation", round(w["val_accuracy"]["mean"], 4), "test", round(w["test"]["test_accuracy"], 4))
print("  network   ", s["best"]["metrics"]["params"], "parameters,", s["best"]["metrics"]["macs"], "MACs")
'
done
