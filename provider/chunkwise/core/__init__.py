"""Everything that is true without Airflow. Nothing below this package imports Airflow, ever."""
