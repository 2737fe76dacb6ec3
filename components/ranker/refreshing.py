"""What a ranker looks up, as of a later moment: users, items, bucket tables and the retrieval index; not what it has learnt.

The tables are also laid out for services (`dataset.laid_out`), once for all of them.

Model, calibration, rules, feature list and the texts behind codes are those that were approved. `LoadedRanker.refreshed` opens
the ranker over such a folder.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from components.artifacts.progress import Progress, silent
from components.dataset.laid_out import save_online
from components.dataset.lookup import FeatureTables
from components.dataset.online import OnlineFeatures
from components.dataset.reading import OpenDataset
from components.dataset.refreshing import Refreshed, refresh_dataset
from components.ranker.rows import feature_columns, index_at
from components.ranker.storage import ONLINE, TABLES, open_ranker, write_data


def refresh_ranker(snapshot: Path, *, ranker: Path, out: Path, progress: Progress = silent) -> Refreshed:
    """Write what the ranker looks up, as of the newest bucket that was over when the snapshot was taken.

    Args:
        snapshot: A snapshot directory, of the contract that the ranker was trained under.
        ranker: A ranker's folder.
        out: Empty folder.
        progress: Told what is being done.

    Raises:
        InputError: If the ranker's files are not those its manifest promises, or the snapshot is no data for it.
    """
    folder = open_ranker(ranker, threads=1)
    with tempfile.TemporaryDirectory(prefix="rankgate-features-") as scratch:
        made = refresh_dataset(
            snapshot, approved=folder.dataset, texts=folder.vocabulary, out=Path(scratch), progress=progress
        )
        data = OpenDataset(Path(scratch), made.dataset)
        progress("building the retrieval index")
        write_data(data, index=index_at(data, 0, seed=folder.manifest.seed), out=out)
    progress("laying them out for services")
    tables = FeatureTables.open(out / TABLES)
    columns = feature_columns(tables, folder.manifest.features)
    if (online := OnlineFeatures.of(tables, columns)) is not None:
        (out / ONLINE).mkdir()
        save_online(online, tables, columns, out / ONLINE)
    return made
