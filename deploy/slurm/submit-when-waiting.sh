#!/bin/bash
# Submits the job when an order waits and no such job is in the queue. For cron on a login node:
#   */10 * * * * FEDMRI_CLIENT_DIR=/home/mri/fedmri FEDMRI_MAILBOX=/scratch/exchange /opt/slurm/submit-when-waiting.sh
set -euo pipefail

: "${FEDMRI_CLIENT_DIR:?the folder that fedmri client init made}"
: "${FEDMRI_MAILBOX:?the shared folder of sealed letters}"

compgen -G "$FEDMRI_MAILBOX/orders/*/*.letter" >/dev/null || exit 0
queued=$(squeue --noheader --me --name=fedmri-client)
[ -z "$queued" ] || exit 0
exec sbatch --export=ALL "$(dirname "$0")/fedmri-client.sbatch"
