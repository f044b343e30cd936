"""What all tests share."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.s3", "tests.support.faults"]

# No deadlines: two cores are shared by whatever runs. Fixtures that the examples of one test share are handles of
# servers without a state that an example could leave behind.
settings.register_profile(
    "chunkwise",
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("chunkwise")
