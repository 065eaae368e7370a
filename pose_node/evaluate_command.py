"""``pose-node evaluate``: one or several models on annotated images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose_node import PoseNodeError, __version__
from pose_node.arguments import (
    ENGINE_SETTINGS,
    add_engine_arguments,
    engine_arguments,
    load_engine,
    positive,
    texts,
)
from pose_node.errors import CheckpointError
from pose_node.idle_options import refuse_idle_options
from pose_node.models.fetch import file_digest, resolve_model
from pose_node.output_files import write_whole
from pose_node.prediction.names import FreeNames, plain
from pose_node.process_settings import tune_process
from pose_node.progress import ProgressLine
from pose_node.source_names import shown_name

if TYPE_CHECKING:
    from pose_node.evaluation import AnnotatedImages, Evaluation
    from pose_node.inference.engine import PoseEngine
    from pose_node.poses import Skeleton


def add_evaluate(commands: Any) -> None:
    """Add the parser of the command."""
    parser = commands.add_parser(
        "evaluate",
        help="COCO keypoint statistics of one or several models",
        **texts(
            "Run models over annotated images and print the COCO keypoint statistics. The defaults "
            "are\nthose with which results are published. Annotations are COCO keypoint JSON (also "
            "CrowdPose's),\nor a folder of YOLO-pose text files.",
            "pose-node evaluate --model yolo11n-pose --images val2017 \\",
            "    --annotations person_keypoints_val2017.json --json result.json",
            "pose-node evaluate --model yolov8n-pose yolo11n-pose --images val2017 \\",
            "    --annotations person_keypoints_val2017.json --markdown table.md --figures figures",
            "pose-node evaluate --model hands.pt --skeleton hand21 --images hands \\",
            "    --annotations labels",
        ),
    )
    parser.add_argument(
        "--model",
        required=True,
        nargs="+",
        action="extend",
        help="files, or names of fetched models; several make one table",
    )
    parser.add_argument("--images", required=True, type=Path, metavar="DIR", help="their folder")
    parser.add_argument(
        "--annotations",
        required=True,
        type=Path,
        metavar="JSON|DIR",
        help="COCO keypoint annotations, or a folder of YOLO-pose labels",
    )
    parser.add_argument(
        "--json", type=Path, metavar="OUT", help="also write the result, with all settings"
    )
    parser.add_argument("--markdown", type=Path, metavar="OUT", help="also write the table")
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="DIR",
        help="also write precision-recall curves, an OKS histogram and the worst images, PNG",
    )
    parser.add_argument(
        "--worst", type=positive, default=12, metavar="N", help="images of that sheet (12)"
    )
    add_engine_arguments(
        parser, score_threshold=0.001, iou_threshold=0.7, max_people=300, backend="torch"
    )
    parser.add_argument(
        "--batch-size", default=8, type=positive, metavar="N", help="images at once (8)"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N images")
    parser.set_defaults(command=evaluate, parser=parser)


def evaluate(options: argparse.Namespace) -> int:
    """Print the statistics; 1 if a model of several could not be evaluated."""
    drawn = options.figures is not None
    refuse_idle_options(options.parser, options, ["worst"], unless=drawn, needed="--figures")
    tune_process()  # before torch is imported
    from pose_node.evaluation import (
        Evaluation,
        comparison_rows,
        markdown_table,
        require_pycocotools,
        write_json,
    )

    require_pycocotools()
    if options.figures is not None:
        from pose_node.evaluation.figures import require_matplotlib

        require_matplotlib()
    models = list(dict.fromkeys(options.model))
    results: dict[str, Evaluation | str] = {}
    facts: list[dict[str, Any]] = []
    sheets = FreeNames()
    for model, name in zip(models, _names(models), strict=True):
        sheet = sheets.take(plain(name)[-100:])
        try:
            alone = len(models) == 1
            results[name], fact = _evaluate_model(options, name, sheet, model, alone=alone)
            facts.append(fact)
        except PoseNodeError as error:
            if len(models) == 1:
                raise
            results[name] = str(error)
            facts.append({"model": name, "error": str(error)})
            print(f"pose-node: {name}: {error}", file=sys.stderr)
    rows = comparison_rows(results)
    if len(models) == 1:
        for result in results.values():
            assert isinstance(result, Evaluation)
            _print_evaluation(result)
    else:
        print(markdown_table(rows), end="")
    if options.markdown is not None:
        write_whole(options.markdown, markdown_table(rows).encode())
    if options.json is not None:
        write_json(options.json, facts[0] if len(models) == 1 else {"models": facts})
    if options.figures is not None:
        good = {name: result for name, result in results.items() if isinstance(result, Evaluation)}
        _write_figures(options.figures, good)
    return 1 if any(isinstance(result, str) for result in results.values()) else 0


def _names(models: Sequence[str]) -> list[str]:
    """What to call models, no two alike: by the names of their files, or else by their paths."""
    stems = [shown_name(Path(model).stem) for model in models]
    free = FreeNames()
    return [
        free.take(stem if stems.index(stem) == number else shown_name(model))
        for number, (model, stem) in enumerate(zip(models, stems, strict=True))
    ]


def _load(options: argparse.Namespace, path: Path, *, alone: bool) -> PoseEngine:
    """The engine; settings that do not suit one of several models are a fault of that one."""
    if alone:
        return load_engine(options, path)
    from pose_node import PoseEngine

    try:
        return PoseEngine.load(path, **engine_arguments(options))
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be used with these settings: {error}") from error


def _evaluate_model(
    options: argparse.Namespace, name: str, sheet_name: str, model: str, *, alone: bool
) -> tuple[Evaluation, dict[str, Any]]:
    from pose_node.evaluation import evaluate_engine

    path = resolve_model(model)
    engine = _load(options, path, alone=alone)
    data = _open_annotations(options, engine.num_keypoints)
    _compare_names(data, engine.skeleton)
    with ProgressLine(f"evaluating {name}", unit="images") as progress:
        result = evaluate_engine(engine, data, batch_size=options.batch_size, progress=progress)
    if options.figures is not None:
        from pose_node.evaluation.figures import contact_sheet, image_png

        sheet = contact_sheet(result, data, engine.skeleton, count=options.worst)
        options.figures.mkdir(parents=True, exist_ok=True)
        write_whole(options.figures / f"worst_{sheet_name}.png", image_png(sheet))
    settings = {setting: getattr(options, setting) for setting in ENGINE_SETTINGS}
    return result, {
        "model": engine.model_name,
        "model_sha256": file_digest(path),
        "skeleton": engine.skeleton.name,
        **result.to_json(),
        "settings": {
            **settings,
            "backend": engine.backend,
            "classes": options.classes,
            "batch_size": options.batch_size,
            "limit": options.limit,
        },
        "annotations": options.annotations.name,
        "device": engine.device_description,
        "pose_node": __version__,
    }


def _open_annotations(options: argparse.Namespace, num_keypoints: int) -> AnnotatedImages:
    from pose_node.evaluation import AnnotatedImages

    if options.annotations.is_dir():
        return AnnotatedImages.open_yolo(
            options.images,
            options.annotations,
            num_keypoints=num_keypoints,
            limit=options.limit,
        )
    return AnnotatedImages.open(options.images, options.annotations, limit=options.limit)


def _compare_names(data: AnnotatedImages, skeleton: Skeleton) -> None:
    """Keypoints in another order give numbers that mean nothing, and look as a bad model does."""
    known, names = skeleton.keypoint_names, data.keypoint_names
    if len(known) != len(names) or skeleton.name == f"keypoints{len(known)}":  # numbered
        return
    for index, (ours, theirs) in enumerate(zip(known, names, strict=True)):
        if ours != theirs:
            print(
                f"pose-node: warning: keypoint {index} is {ours} in skeleton {skeleton.name} and "
                f"{theirs} in the annotations; if these are not the same, the numbers mean nothing",
                file=sys.stderr,
            )
            return


def _write_figures(folder: Path, results: dict[str, Evaluation]) -> None:
    from pose_node.evaluation.figures import (
        figure_png,
        oks_histogram_figure,
        precision_recall_figure,
    )

    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "precision_recall.png", figure_png(precision_recall_figure(results)))
    write_whole(folder / "oks_histogram.png", figure_png(oks_histogram_figure(results)))
    print(f"figures are in {folder}")


def _print_evaluation(result: Evaluation) -> None:
    from pose_node.commands import print_table

    print_table(
        [tuple(result.statistics), tuple(f"{value:.3f}" for value in result.statistics.values())],
        right_aligned=set(range(len(result.statistics))),
    )
    stages = ", ".join(f"{name} {ms:.1f}" for name, ms in result.stage_milliseconds.items())
    print(
        f"\n{result.images} images, {result.annotated_people} people annotated, "
        f"{result.found_people} found, {result.seconds:.1f} s; ms for an image: {stages}"
    )
