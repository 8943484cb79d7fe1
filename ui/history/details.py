"""Everything about one run: what came of it, how its coefficients came about, where it came from."""

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from merging.charts.accuracy import Series, accuracy_figure, accuracy_table, forgetting_figure, forgetting_table
from merging.charts.geometry import cosine_figure
from merging.charts.run_series import scaling_of, series_of
from merging.charts.runs import (
    coefficient_heatmap,
    coefficient_table,
    entropy_figure,
    steps_table,
    storage_figure,
    storage_table,
    timing_figure,
    trajectory_figure,
)
from merging.core.text import counted, printed, signed
from merging.methods.forgetting import GROUPS, Group, weights_in_words
from merging.runs import Run
from merging.runs.export.weights import require_done
from merging.runs.jobs.merge_result import Forgetting, MergeResult
from merging.suites.images.shifts import CLEAN
from merging.weights.geometry import cosines, mean_abs_cosine
from ui.accuracy import view as accuracy_view
from ui.look.figure import escape_markdown, is_dark, show, show_table
from ui.runs.text import TIMES_ELSEWHERE, duration, phases, provenance
from ui.shell import state
from ui.shell.url import named_in_url

TAB = "tab."  # begins what the URL calls the open tab of a run


def details(run: Run) -> None:
    """All sections that apply to a finished run, as tabs."""
    result = require_done(run)
    sections = {
        "Accuracy": (_accuracy, bool(result.accuracy)),
        "Unseen tasks": (_unseen, result.unseen is not None),
        "Forgetting": (_forgetting, result.forgetting is not None),
        "Coefficients": (_coefficients, result.coefficients is not None),
        "Storage": (_storage, result.merge.storage is not None),
        "Adaptation": (_adaptation, bool(result.merge.entropy)),
        "Cosines": (_cosines, result.after is not None),
        "Time and memory": (_timings, True),
        "Settings and files": (_origin, True),
    }
    shown = {title: draw for title, (draw, applies) in sections.items() if applies}
    warn_of_oddities(run)
    key = f"{TAB}{run.id}"
    with named_in_url(key, {title: title for title in shown}):
        tabs = st.tabs(list(shown), key=key, bind="query-params")
    for tab, draw in zip(tabs, shown.values(), strict=True):
        with tab:
            draw(run, result)


def warn_of_oddities(run: Run) -> None:
    """Say what was hardly meant about a finished run, such as a task model that equals the base, or is outdated."""
    for sentence in run.warnings:
        st.warning(escape_markdown(f"{sentence[:1].upper()}{sentence[1:]}."), icon=":material/warning:")


def _labels(run: Run) -> dict[str, str]:
    return accuracy_view.task_labels(run.spec.tasks)


def _accuracy(run: Run, result: MergeResult) -> None:
    tasks = tuple(result.measured)
    labels = accuracy_view.task_labels(tasks)
    baselines = (
        accuracy_view.baseline_series(tasks, run.spec.split) if belongs_here(run) and run.spec.shift == CLEAN else []
    )
    series = [*baselines[:1], *series_of([run]), *baselines[1:]]
    show(
        partial(accuracy_figure, series, labels),
        key=f"details-accuracy-{run.id}",
        takeaway=accuracy_view.takeaway(series),
        table=accuracy_table(series, labels),
        file=f"accuracy-{run.id}",
    )
    st.caption(f"{provenance([run])} {accuracy_view.note_on_forgotten(series)}".strip())


def _unseen(run: Run, result: MergeResult) -> None:
    found = result.unseen
    assert found is not None and result.average is not None  # else there is no such tab
    merged = {**result.measured, **found.accuracy}
    labels = accuracy_view.task_labels(tuple(merged))
    named = {task: f"{label} (unseen)" if task in found.accuracy else label for task, label in labels.items()}
    zero_shot = {task: found.zero_shot[task] for task in merged}
    series = [
        Series(accuracy_view.ZERO_SHOT, accuracy_view.ZERO_SHOT, zero_shot),
        Series(run.label, run.spec.method, merged),
    ]
    show(
        partial(accuracy_figure, series, named),
        key=f"details-unseen-{run.id}",
        takeaway=(
            f"On {counted(len(found.accuracy), 'unseen task')} {100 * found.average:.1f} % on average, "
            f"{signed(100 * (found.average - found.zero_shot_average))} points against zero-shot; on the merged ones "
            f"{100 * result.average:.1f} %, {signed(100 * (result.average - found.zero_shot_seen))}."
        ),
        table=accuracy_table(series, named),
        file=f"unseen-{run.id}",
    )


def _forgetting(run: Run, result: MergeResult) -> None:
    report = result.forgetting
    assert report is not None  # else there is no such tab
    labels = accuracy_view.task_labels([task for group in GROUPS for task in report.rows(group)])
    words = weights_in_words(report.weights, labels)
    st.caption(
        escape_markdown(
            f"Task vectors: {words}. All other tasks of the suite are measured too: they should stay as they were."
        )
    )
    show(
        partial(forgetting_figure, report, run.spec.method, labels),
        key=f"details-forgetting-{run.id}",
        takeaway=" ".join(_mean_in_words(report, group, labels) for group in GROUPS if report.rows(group)),
        table=forgetting_table(report, labels),
        file=f"forgetting-{run.id}",
    )


def _mean_in_words(report: Forgetting, group: Group, labels: dict[str, str]) -> str:
    """What became of the tasks of one group, from before to after, as a sentence."""
    mean, tasks = report.means[group], [labels[task] for task in report.rows(group)]
    assert mean is not None  # of a group that has tasks
    verb = {"forgotten": "Forgotten", "added": "Added", "kept": "To be kept"}[group]
    named = " and ".join(tasks) if len(tasks) <= 2 else f"{len(tasks)} tasks"
    on_average = " on average" if len(tasks) > 1 else ""
    return f"{verb}, {named}: {100 * mean.before:.1f} % zero-shot, {100 * mean.after:.1f} % after{on_average}."


def belongs_here(run: Run) -> bool:
    """Whether a run used the weights of the chosen suite, as they are now."""
    suite, space = state.suite(), state.workspace()
    prints = run.merged.fingerprints if run.merged else {}
    if not set(run.spec.tasks) <= set(state.usable_tasks()):
        return False
    files = [suite.base_checkpoint, *(suite.checkpoint(task) for task in run.spec.tasks)]
    return [space.fingerprint(file) for file in files] == list(prints.values())


def _coefficients(run: Run, result: MergeResult) -> None:
    columns = result.coefficients
    assert columns is not None  # else there is no such tab
    table = np.array(columns.table)
    means = table.mean(axis=1)
    low, high = int(means.argmin()), int(means.argmax())
    names = [_labels(run)[task] for task in columns.tasks]
    if float(np.ptp(table)) < 1e-9:
        takeaway = (
            f"Every task vector enters with the same coefficient, {printed(table.flat[0], '.3g')}, in every tensor."
        )
    else:
        takeaway = (
            f"Averaged over the tensors, {names[high]} counts most ({printed(means[high], '.3f')}) and "
            f"{names[low]} least ({printed(means[low], '.3f')})."
        )
    st.caption("The run is this table: merged weights = base + Σ c · task vector, tensor by tensor.")
    show(
        partial(coefficient_heatmap, columns, _labels(run), is_dark()),
        key=f"details-coefficients-{run.id}",
        takeaway=takeaway,
        table=coefficient_table(columns, _labels(run)),
        file=f"coefficients-{run.id}",
    )


def _storage(run: Run, result: MergeResult) -> None:
    report, count = result.merge, len(run.spec.tasks)
    storage = report.storage
    assert storage is not None  # else there is no such tab
    table = storage_table(storage, count)
    st.caption(
        f"{count} models, one a task: each is the base plus the shared vector where the task's mask is active. "
        "Counted are the tensors of the visual tower at the width of their types."
    )
    show(
        partial(storage_figure, table),
        key=f"details-storage-{run.id}",
        takeaway=f"{storage.localised / 8e6:,.1f} MB instead of {storage.models / 8e6:,.1f} MB for the base and "
        f"{count} fine-tuned models: {storage.models / storage.localised:.1f} times less. Of the "
        f"masks' {storage.masks / 8e6:,.1f} MB, compressing by zlib leaves "
        f"{100 * storage.masks_compressed / storage.masks:.0f} %.",
        table=table,
        file=f"storage-{run.id}",
    )
    st.markdown("**Masks**")
    masks = {
        "Task": list(_labels(run).values()),
        **({"λ": report.thresholds} if report.thresholds else {}),
        **({"Factor": [round(scale, 3) for scale in report.scales]} if report.scales else {}),
        "Active entries (%)": [round(100 * share, 1) for share in report.active or []],
    }
    show_table(pd.DataFrame(masks), key=f"details-masks-{run.id}", file=f"masks-{run.id}")


def _adaptation(run: Run, result: MergeResult) -> None:
    tasks = result.coefficients.tasks if result.coefficients else list(run.spec.tasks)
    entropies, path = result.merge.entropy or [], result.merge.trajectory or []
    entropy, trajectory = np.array(entropies), np.array(path)
    tenth = max(1, len(entropy) // 10)
    before, after = entropy[:tenth].mean(), entropy[-tenth:].mean()
    show(
        partial(entropy_figure, entropies, tasks, _labels(run)),
        key=f"details-entropy-{run.id}",
        takeaway=f"Mean prediction entropy went from {before:.3f} to {after:.3f} nats (first and last tenth of the "
        f"{len(entropy)} steps).",
        table=steps_table(entropies, tasks, _labels(run)),
        file=f"entropy-{run.id}",
    )
    moves = np.abs(trajectory[-1] - trajectory[0])
    most = int(moves.argmax())
    show(
        partial(trajectory_figure, path, tasks, _labels(run)),
        key=f"details-trajectory-{run.id}",
        takeaway=f"The coefficients of {_labels(run)[tasks[most]]} moved most, from "
        f"{printed(trajectory[0][most], '.3f')} to {printed(trajectory[-1][most], '.3f')} on average over the tensors.",
        table=steps_table(path, tasks, _labels(run)),
        file=f"trajectory-{run.id}",
    )


def _cosines(run: Run, result: MergeResult) -> None:
    names = list(_labels(run).values())
    described = result.after
    assert described is not None  # else there is no such tab
    after = np.array(described.cosine)
    if not belongs_here(run):
        st.info("The cosines before the edit need this run's checkpoints: choose its suite in the sidebar.")
        show_table(_square(after, names), key=f"details-cosines-{run.id}", file=f"cosines-{run.id}")
        return
    gram = state.geometry(run.spec.tasks).gram
    before = cosines(gram)
    show(
        partial(cosine_figure, before, after, names, dark=is_dark()),
        key=f"details-cosines-{run.id}",
        takeaway=f"Mean |cos| between different task vectors: {float(mean_abs_cosine(gram)):.4f} before the edit, "
        f"{described.mean_abs:.4f} after it.",
        table=pd.concat([_square(before, names), _square(after, names)], keys=["before", "after"], names=["Stage"])
        .reset_index(level=0)
        .reset_index(drop=True),
        file=f"cosines-{run.id}",
    )


def _square(matrix: np.ndarray, names: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(matrix, columns=names)
    table.insert(0, "Task", names)
    return table


def _timings(run: Run, result: MergeResult) -> None:
    seconds, total = phases(run), result.seconds["total"]
    longest = max(seconds, key=lambda phase: seconds[phase])
    table = pd.DataFrame({"Phase": [*seconds, "total"], "Seconds": [*seconds.values(), total]})
    show(
        partial(timing_figure, {run.label: seconds}),
        key=f"details-timing-{run.id}",
        takeaway=f"{duration(total)} in all on {result.device}, {duration(seconds[longest])} of it {longest}; "
        f"peak memory {'unknown' if result.peak_bytes is None else f'{result.peak_bytes / 2**20:,.0f} MiB'}.",
        table=table,
        file=f"timing-{run.id}",
    )
    if run.shipped:
        st.caption(f"On the machine that measured{TIMES_ELSEWHERE}.")


def _origin(run: Run, result: MergeResult) -> None:
    settings, files = st.columns(2, gap="medium")
    with settings:
        st.markdown("**Settings**")
        chosen = scaling_of(run)
        if chosen:
            st.caption(escape_markdown(f"Coefficients: {chosen}."))
        for sentence in result.units:
            st.caption(escape_markdown(sentence))
        st.json(run.spec.model_dump(mode="json", exclude={"suite"}), expanded=2)
    with files:
        st.markdown("**Files, by content**")
        rows = [{"File": file, "SHA-256": f"{print_[:16]}…"} for file, print_ in result.fingerprints.items()]
        show_table(pd.DataFrame(rows), key=f"details-files-{run.id}", file=f"files-{run.id}")
        st.caption(f"Fingerprint of the run: `{run.fingerprint}`")
