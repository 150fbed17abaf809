"""Encoders that learn from weak labels: contrastive pre-training, and linear probes of what was learnt."""
