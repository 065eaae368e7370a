"""The edge: the only folder that imports rclpy or message classes. No tensor maths here."""
