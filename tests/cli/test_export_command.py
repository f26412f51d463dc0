"""`sgym export` writes bundles that engines load."""

from sgym.export import PolicyRuntime, read_manifest


def test_export_writes_a_scheduler_with_its_parameters(sgym_command, tmp_path):
    done = sgym_command("export", "--policy", "llf", "-o", "b", "--set", "policy.reservation=0.3")
    assert done.exit_code == 0, done.output
    assert "b: llf, kind builtin" in done.output

    about = read_manifest(tmp_path / "b")
    assert about.parameters == {"prefill_time": 1e-4, "reservation": 0.3, "expected_output": 256.0}
    assert about.summary.startswith("least laxity first")
    assert PolicyRuntime(tmp_path / "b").decision == "iteration"
    assert "Mok 1983" in (tmp_path / "b" / "card.md").read_text()


def test_export_says_what_can_be_exported(sgym_command):
    done = sgym_command("export", "--policy", "andes", "-o", "b")
    assert done.exit_code == 2
    assert "--policy andes cannot be exported" in done.output
    assert "these can be: stock, vllm, vllm-priority, spf," in done.output


def test_export_refuses_what_the_policy_has_not(sgym_command):
    done = sgym_command("export", "--policy", "spf", "-o", "b", "--set", "policy.speed=1")
    assert "--set policy.speed: policy 'spf' lets you set policy.aging" in done.output
    done = sgym_command("export", "--policy", "spf", "-o", "b", "--set", "policy.aging=fast")
    assert "parameters.aging must be a number of at least 0, got 'fast'" in done.output
    assert "no policy 'sfp'" in sgym_command("export", "--policy", "sfp", "-o", "b").output


def test_export_says_that_a_bundle_is_one_already(sgym_command):
    done = sgym_command("export", "--policy", "zoo:chat_8b", "-o", "b")
    assert done.exit_code == 2
    assert "--policy zoo:chat_8b is a bundle already" in done.output
