"""The messages that bags of results hold, as text, for machines without the compiled package.

The same as the files in ``msg/``, without their comments; a test compares them.
"""

from __future__ import annotations

DEFINITIONS = {
    "pose_node/msg/BoundingBox": """\
float32 x_min
float32 y_min
float32 x_max
float32 y_max
""",
    "pose_node/msg/Keypoint": """\
float32 x
float32 y
float32 score
""",
    "pose_node/msg/PersonPose": """\
uint8 NOSE=0
uint8 LEFT_EYE=1
uint8 RIGHT_EYE=2
uint8 LEFT_EAR=3
uint8 RIGHT_EAR=4
uint8 LEFT_SHOULDER=5
uint8 RIGHT_SHOULDER=6
uint8 LEFT_ELBOW=7
uint8 RIGHT_ELBOW=8
uint8 LEFT_WRIST=9
uint8 RIGHT_WRIST=10
uint8 LEFT_HIP=11
uint8 RIGHT_HIP=12
uint8 LEFT_KNEE=13
uint8 RIGHT_KNEE=14
uint8 LEFT_ANKLE=15
uint8 RIGHT_ANKLE=16
int32 track_id
float32 score
BoundingBox bbox
Keypoint[] keypoints
""",
    "pose_node/msg/PersonPoseArray": """\
std_msgs/Header header
uint32 image_width
uint32 image_height
string skeleton
PersonPose[] people
""",
    "pose_node/msg/SkeletonInfo": """\
std_msgs/Header header
string name
string[] keypoint_names
uint16[] edges
uint16[] flip
""",
}
