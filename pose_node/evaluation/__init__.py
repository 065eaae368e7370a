"""How good a model is: the COCO keypoint statistics on annotated images, tables and figures."""

from pose_node.evaluation.annotations import AnnotatedImages
from pose_node.evaluation.run import Engine, Evaluation, evaluate_engine
from pose_node.evaluation.statistics import (
    STATISTICS,
    coco_results,
    evaluate_keypoints,
    require_pycocotools,
)
from pose_node.evaluation.tables import comparison_rows, markdown_table, write_json

__all__ = [
    "STATISTICS",
    "AnnotatedImages",
    "Engine",
    "Evaluation",
    "coco_results",
    "comparison_rows",
    "evaluate_engine",
    "evaluate_keypoints",
    "markdown_table",
    "require_pycocotools",
    "write_json",
]
