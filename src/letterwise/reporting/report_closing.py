"""The report's end: limitations, deployment notes, recommendations, references and appendices.

Knows the record of a run and what was judged about it.
"""

from __future__ import annotations

from letterwise.config import ANSWER_MODES, dump_config
from letterwise.reporting.report_document import Block, Items, Listing, Section, Table, Text
from letterwise.reporting.report_model import ROLES, Conclusion
from letterwise.reporting.report_record import RunRecord
from letterwise.reporting.summary import NOTHING, share_text, value_text
from letterwise.results import ModelResults, ModeResults

REFERENCES = (
    "Edman, Schmid, Fraser: CUTE: Measuring LLMs' Understanding of Their Tokens. EMNLP 2024. "
    "aclanthology.org/2024.emnlp-main.177",
    "Uzan, Pinter: CharBench: Evaluating the Role of Tokenization in Character-Level Tasks. AAAI 2026. "
    "arXiv:2508.02591",
    "Cosma et al.: The Strawberry Problem: Emergence of Character-level Understanding in Tokenized Language Models. "
    "EMNLP 2025. arXiv:2505.14172",
    "Kaushal, Mahowald: What do tokens know about their characters and how do they know it? NAACL 2022. "
    "arXiv:2206.02608",
    "Hu et al.: LoRA: Low-Rank Adaptation of Large Language Models. 2021. arXiv:2106.09685",
    "Mitchell et al.: Model Cards for Model Reporting. FAT* 2019. arXiv:1810.03993",
    "Wilson: Probable Inference, the Law of Succession, and Statistical Inference. Journal of the American Statistical "
    "Association 22 (158), 1927",
    "McNemar: Note on the sampling error of the difference between correlated proportions or percentages. "
    "Psychometrika 12, 1947",
    "Bonett, Wright: Sample size requirements for estimating Pearson, Kendall and Spearman correlations. Psychometrika "
    "65, 2000",
)


def limitations_section(judged: Conclusion) -> Section:
    """What the figures do not allow to say."""
    return Section("Limitations seen", [Items(judged.limitations)])


def deployment_section(record: RunRecord) -> Section:
    """What someone who puts the model behind a service has to know."""
    notes = []
    if record.adapter_bytes is not None:
        notes.append(
            f"The adapter's weights are {record.adapter_bytes / 1e6:.1f} MB, beside those of "
            f"{record.results.base_model.id}."
        )
    calibration = record.calibration
    if calibration:
        chosen = ", ".join(
            f"`{kind}`: `{mode}` ({share_text(calibration.accuracy[f'{kind}.{mode}'])} right on validation words)"
            for kind, mode in calibration.default_modes.items()
            if f"{kind}.{mode}" in calibration.accuracy
        )
        notes.append(f"Answer modes that were right most often, and that the service takes by default: {chosen}.")
        notes.append("`calibration.json` lies beside the adapter; the service shows calibrated confidence by it.")
    else:
        notes.append("No calibration was found beside the adapter: the model's confidence would be shown as it is.")
    environment = record.environment
    notes += [
        f"Evaluated with {environment.dtype} on {environment.gpu or environment.cpu}. Another number type or a "
        "quantized export answers a few questions differently: evaluate it again before relying on it.",
        "Response times and memory under load were not measured in this run.",
        "Not a spelling dictionary: where a right answer matters and the word is known, count by program.",
    ]
    blocks: list[Block] = [
        Items(notes),
        Text("To serve the tuned model, or to make one folder of adapter and base:"),
        Listing(
            f"letterwise serve --model {record.config.checkpoint_folder}/finetuned/best\n"
            f"letterwise merge {record.config.checkpoint_folder}/finetuned/best merged"
            + (f" --base-model {record.config.base_model}" if record.config.base_model != "embedded" else "")
        ),
    ]
    return Section("Deployment notes", blocks)


def recommendations_section(judged: Conclusion) -> Section:
    """What to do next, each with the figures that it follows from."""
    rows = [[entry.advice, entry.because] for entry in judged.recommendations]
    return Section(
        "Recommendations",
        [Table("What follows from the figures.", ["recommendation", "because"], rows, right=False, widths=[45, 55])],
    )


def references_section() -> Section:
    """What the work stands on."""
    return Section("References", [Items(list(REFERENCES))])


def appendices(record: RunRecord) -> list[Section]:
    """Configuration, environment, full tables, checksums."""
    return [
        Section("Configuration", [Text("`config.yaml`, as resolved:"), Listing(dump_config(record.config).strip())]),
        _environment(record),
        _full_tables(record),
        Section(
            "Files",
            [
                Table(
                    "What this report was made from.",
                    ["file", "SHA-256"],
                    [[f"`{name}`", f"`{checksum}`"] for name, checksum in record.checksums.items()],
                    right=False,
                    widths=[30, 70],
                ),
                Table(
                    "The data, as built.",
                    ["file", "SHA-256"],
                    [[f"`{name}`", f"`{checksum}`"] for name, checksum in record.audit.checksums.items()],
                    right=False,
                    widths=[30, 70],
                ),
            ],
        ),
    ]


def _environment(record: RunRecord) -> Section:
    environment = record.environment.model_dump(exclude={"packages", "cpu_features", "seeds"})
    rows = [[name, NOTHING if value is None else str(value)] for name, value in environment.items()]
    rows.append(["seeds", ", ".join(f"{name} {seed}" for name, seed in record.environment.seeds.items())])
    rows.append(["processor features", ", ".join(record.environment.cpu_features) or NOTHING])
    rows += [[f"`{name}`", version] for name, version in record.environment.packages.items()]
    return Section("Environment", [Table("`environment.json`.", ["what", "value"], rows, right=False, widths=[22, 78])])


def _full_tables(record: RunRecord) -> Section:
    results = record.results
    blocks: list[Block] = [
        _metrics_table(
            f"All metrics of each model, {results.split} split; questions in mode direct.",
            {ROLES[role]: model for role in ROLES if (model := results.model(role))},
        )
    ]
    for mode in ANSWER_MODES:
        if models := results.answer_modes.get(mode):
            caption = (
                f"All metrics in mode {mode}. Names that end in `_generated`: answers that the model wrote itself."
            )
            blocks.append(_metrics_table(caption, {ROLES[role]: models[role] for role in ROLES if role in models}))
    blocks.append(_breakdowns(record))
    return Section("Full tables", blocks)


def _metrics_table(caption: str, models: dict[str, ModelResults] | dict[str, ModeResults]) -> Table:
    metrics = dict.fromkeys(metric for model in models.values() for metric in model.metrics)
    rows = []
    for metric in metrics:
        sizes = dict.fromkeys(f"{model.n[metric]:,}" for model in models.values() if metric in model.n)
        cells = [
            value_text(metric, model.metrics[metric], model.intervals.get(metric))
            if metric in model.metrics
            else NOTHING
            for model in models.values()
        ]
        rows.append([f"`{metric}`", *cells, " / ".join(sizes) or NOTHING])
    width = 57 // max(1, len(models))
    return Table(caption, ["metric", *models, "n"], rows, widths=[33, *([width] * len(models)), 10])


def _breakdowns(record: RunRecord) -> Table:
    models = {ROLES[role]: model for role in ROLES if (model := record.results.model(role))}
    tuned = record.results.finetuned_model or record.results.base_model
    rows = [
        [
            f"`{metric}`",
            f"{breakdown.replace('_', ' ')} {group}",
            *(_group(model, metric, breakdown, group) for model in models.values()),
            f"{int(groups.get(f'{breakdown}_n', {}).get(group, 0)):,}",
        ]
        for metric, groups in tuned.breakdowns.items()
        for breakdown in groups
        if not breakdown.endswith("_n") or breakdown == "n_tokens"
        for group in groups[breakdown]
    ]
    width = 45 // max(1, len(models))
    return Table(
        "Accuracy in mode direct by groups of items.",
        ["metric", "group", *models, "n"],
        rows,
        widths=[28, 19, *([width] * len(models)), 8],
    )


def _group(model: ModelResults, metric: str, breakdown: str, group: str) -> str:
    value = model.breakdowns.get(metric, {}).get(breakdown, {}).get(group)
    return NOTHING if value is None else share_text(value)
