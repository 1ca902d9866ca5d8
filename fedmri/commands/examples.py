"""An example of every command: its help shows it, and a test types it."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, str] = {
    "": "fedmri simulate --sites 3",
    "demo": "fedmri demo --folder rehearsal",
    "harmonize": "fedmri harmonize table.csv --site-column site",
    "lint-claims": "fedmri lint-claims paper.md",
    "predict": "fedmri predict model.fedmri scans --out predictions",
    "explain": "fedmri explain model.fedmri scans",
    "agree": "fedmri agree hospital-a.json hospital-b.json",
    "score": "fedmri score model.fedmri bids",
    "show": "fedmri show model.fedmri",
    "export": "fedmri export model.fedmri",
    "serve": "fedmri serve model.fedmri",
    "simulate": "fedmri simulate --sites 3 strategy=fedprox",
    "models": "fedmri models",
    "report": "fedmri report runs/experiment",
    "study": "fedmri study study.yaml",
    "compare": "fedmri compare runs/first runs/second",
    "subgroups": "fedmri subgroups runs/experiment --by sex --by 'age:40|60'",
    "bundle": "fedmri bundle runs/experiment",
    "data": "fedmri data check bids",
    "data check": "fedmri data check bids target.kind=regression target.name=age",
    "data example": "fedmri data example bids --sites 3",
    "server": "fedmri server --dir /var/lib/fedmri-server",
    "server start": "fedmri server start --dir /var/lib/fedmri-server",
    "server run": "fedmri server run plan.yaml --name first --sites hospital-a,hospital-b",
    "server stop": "fedmri server stop first",
    "server init": "fedmri server init coordinator --name fl.example.org",
    "server enroll": "fedmri server enroll hospital-a hospital-a.pub --max-patients 400",
    "server limit": "fedmri server limit hospital-a --max-patients 500",
    "server revoke": "fedmri server revoke hospital-c",
    "server sites": "fedmri server sites --json",
    "server renew": "fedmri server renew --check",
    "server status": "fedmri server status first",
    "server list": "fedmri server list",
    "server logs": "fedmri server logs first --follow",
    "server fetch": "fedmri server fetch first first-results",
    "server watch": "fedmri server watch first --web --port 8080",
    "client": "fedmri client --dir /var/lib/fedmri-client",
    "client forget": "fedmri client forget sub-0042",
    "client init": "fedmri client init hospital --data /srv/mri/bids",
    "client join": "fedmri client join hospital-a.json",
    "client doctor": "fedmri client doctor --json",
    "client check": "fedmri client check plan.yaml",
    "client plans": "fedmri client plans",
    "client approve": "fedmri client approve 35534a2e58f7",
    "client withdraw": "fedmri client withdraw 35534a2e58f7",
    "client refuse": "fedmri client refuse first --reason 'our ethics board meets in June'",
    "client status": "fedmri client status",
    "client ledger": "fedmri client ledger --verify",
    "client renew-account": "fedmri client renew-account",
    "client start": "fedmri client start --dir /var/lib/fedmri-client",
    "client once": "fedmri client once --mailbox /mnt/exchange",
    "client watch": "fedmri client watch --web --port 8081",
    "client rehearse": "fedmri client rehearse plan.yaml",
    "privacy": "fedmri privacy plan --patients 80 --rounds 20",
    "privacy plan": "fedmri privacy plan --patients 80 --rounds 20 --epsilon 4",
    "plan": "fedmri plan explain train.lr",
    "plan init": "fedmri plan init plan.yaml --data bids",
    "plan check": "fedmri plan check plan.yaml --data bids",
    "plan diff": "fedmri plan diff old.yaml new.yaml",
    "plan explain": "fedmri plan explain strategy=fedprox",
}
"""By the words after ``fedmri``; an example of a group is one of its commands."""


def shown(words: str) -> str:
    """Return the line of a command's help with its example; empty where there is none."""
    example = EXAMPLES.get(words)
    return f"Example: {example}" if example else ""
