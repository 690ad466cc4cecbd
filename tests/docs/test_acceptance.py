"""What somebody who comes from the original scripts must find, and which tests hold it."""

from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
#: What is promised, and the tests that would fail without it.
HELD: dict[str, tuple[str, ...]] = {
    "a file with prompts alone takes the defaults; what is wrong is told with row and column": (
        "producer/test_prompts.py::test_an_empty_cell_means_the_default",
        "producer/test_prompts.py::test_without_a_size_the_checkpoint_decides",
        "producer/test_prompts.py::test_a_tag_that_is_nearly_a_parameter_is_warned_of_once",
        "producer/test_bad_rows.py::test_twenty_kinds_of_bad_rows_give_twenty_clear_messages",
        "producer/test_cli.py::test_a_bad_file_exits_with_2_and_names_every_problem",
    ),
    "a row of five images gives five, whatever shares the device": (
        "producer/test_submit.py::test_image_k_of_a_row_has_its_seed_plus_k",
        "producer/test_originals.py::test_compvis_makes_each_line_once_an_iteration_in_chunks",
        "integration/test_local.py::test_render_makes_every_image_and_leaves_nothing_running",
    ),
    "image k of a row has seed + k, and can be made alone": (
        "worker/test_company.py::test_the_images_of_a_row_are_those_of_their_seeds_made_alone",
    ),
    "an image is the same in any company": (
        "worker/test_company.py::test_an_image_is_the_same_whoever_shares_its_engine",
    ),
    "a seed that is drawn is recorded": (
        "producer/test_submit.py::test_a_seed_that_is_not_given_is_drawn_and_recorded",
        "worker/test_finishing.py::test_a_file_tells_the_seed_that_was_used",
    ),
    "all samplers work by the originals' names; unknown ones are refused": (
        "configs/test_samplers.py::test_the_original_flags_are_known",
        "worker/test_sampler_matrix.py::test_in_a_mixed_queue_latents_are_the_pipelines",
        "configs/test_samplers.py::test_an_unknown_name_is_answered_with_close_ones",
    ),
    "latents of DDIM, PLMS and DPM-Solver are the originals'": (
        "worker/test_compat.py::test_latents_are_those_of_compvis",
        "worker/test_compat.py::test_latents_are_those_of_compvis_in_few_steps",
    ),
    "step grids are the originals', and counts that crashed are refused": (
        "worker/test_compat.py::test_thirty_steps_are_as_many_calls_as_in_compvis",
        "configs/test_compat.py::test_step_counts_without_a_grid_are_those_that_crashed",
        "producer/test_originals.py::test_txt2img_refuses_before_anything_is_recorded",
        "worker/test_finishing.py::test_steps_and_noise_of_an_original_run_are_recorded",
    ),
    "noise is that of a CUDA generator over the whole run": (
        "worker/test_philox.py::test_it_starts_as_a_cuda_generator_does",
        "configs/test_compat.py::test_a_second_iteration_begins_with_the_draw_it_had",
    ),
    "with a fixed code iterations begin alike": (
        "producer/test_originals.py::test_with_fixed_code_every_iteration_begins_with_the_same_draw",
        "worker/test_compat.py::test_with_a_fixed_code_iterations_begin_alike_and_images_do_not",
    ),
    "eta is DDIM's, and can be repeated": (
        "worker/test_engine.py::test_eta_reaches_the_sampler_as_in_the_pipeline",
        "worker/test_compat.py::test_noise_of_ddim_steps_follows_in_the_runs_draws",
    ),
    "the sides of an init image are rounded down, whatever its mode": (
        "producer/test_init_images.py::test_the_size_is_the_init_images",
        "worker/test_init_images.py::test_every_mode_becomes_rgb",
        "worker/test_init_images.py::test_grey_becomes_grey",
    ),
    "strength says how many steps are run, and PLMS begins from no image": (
        "worker/test_inpainting.py::test_the_strength_says_how_many_steps_are_run",
        "worker/test_compat.py::test_an_init_image_is_noised_one_place_above_the_first_step",
        "producer/test_bad_rows.py::test_a_strength_that_leaves_no_step_is_refused",
        "worker/test_inpainting.py::test_no_picture_begins_from_an_image_with_plms",
    ),
    "sizes are checked by row": (
        "producer/test_submit.py::test_what_the_originals_could_not_do_is_refused_by_row",
        "configs/test_checkpoints.py::test_a_size_the_checkpoint_cannot_make_is_a_conflict",
    ),
    "no file takes the place of another, and any prompt is a legal name": (
        "producer/test_numbered_files.py::test_two_processes_make_200_files_of_200",
        "producer/test_numbered_files.py::test_any_prompt_is_a_legal_name_on_windows_and_linux",
        "integration/test_workers.py::test_two_workers_share_a_batch_and_make_each_image_once",
    ),
    "every image tells what made it": (
        "worker/test_finishing.py::test_the_ledger_has_all_that_made_an_image",
        "worker/test_finishing.py::test_a_files_record_rebuilds_the_parameters_of_its_job",
        "worker/test_finishing.py::test_a_file_says_nothing_where_metadata_are_not_wanted",
    ),
    "unsafe images are flagged and found; without a checker nothing is claimed": (
        "worker/test_finishing.py::test_an_unsafe_picture_is_flagged_and_hidden",
        "worker/test_finishing.py::test_flag_and_score_are_empty_while_safety_is_off",
        "producer/test_history.py::test_unsafe_images_are_listed_with_the_score_and_counted",
    ),
    "NaN is tried again in float32, then fails; one colour is flagged": (
        "worker/test_float32.py::test_an_image_that_is_not_finite_is_made_again_in_float32",
        "worker/test_tasks.py::test_an_image_that_is_not_finite_fails_at_once",
        "worker/test_tasks.py::test_a_picture_of_one_colour_is_flagged",
    ),
    "out of memory halves the batch and loses nothing": (
        "worker/test_engine.py::test_out_of_memory_halves_the_rows_and_loses_nothing",
        "integration/test_faults.py::test_no_fault_of_the_device_costs_an_image",
    ),
    "a checkpoint is loaded once": (
        "worker/test_engine_queue.py::test_from_noise_and_from_an_image_a_checkpoint_is_opened_once",
        "worker/test_engine_queue.py::test_precisions_that_take_turns_open_a_checkpoint_once_each",
    ),
    "a worker a GPU; what one leaves another finishes": (
        "producer/test_gpus.py::test_each_gpu_has_a_slot_that_sees_it_alone",
        "integration/test_fleet.py::test_a_killed_workers_jobs_are_put_back_within_two_seconds_and_made_by_the_other",
    ),
    "what is missing is made, and nothing else": (
        "integration/test_local.py::test_a_stopped_render_is_resumed_where_it_stood",
        "integration/test_originals.py::test_a_stopped_run_is_resumed_into_the_same_outdir",
    ),
    "nothing needs a network; a file that is missing is named": (
        "integration/test_ckpt.py::test_a_ckpt_is_added_converted_and_rendered_with_no_network",
        "worker/test_checkpoints.py::test_a_needed_file_that_is_not_there_is_named",
    ),
    "words that are cut off are named; a colon is a weight only when asked for": (
        "producer/test_long_prompts.py::test_a_warning_is_no_error_and_names_row_and_words",
        "producer/test_originals.py::test_a_prompt_that_is_too_long_is_warned_of_with_the_words_that_are_lost",
        "worker/test_compat.py::test_weighted_sub_prompts_are_averaged",
        "worker/test_compat.py::test_weights_are_heeded_only_where_they_are_asked_for",
    ),
    "grids, jpg, the watermark, and no scale that guides nothing": (
        "producer/test_placing.py::test_the_grid_has_two_black_pixels_around_each_image",
        "producer/test_placing.py::test_a_grid_has_the_watermark_where_images_have_it",
        "producer/test_sheet.py::test_memory_does_not_grow_with_the_pages",
        "producer/test_originals.py::test_jpg_is_what_the_ledger_calls_jpeg",
        "configs/test_watermark.py::test_the_package_of_the_original_scripts_reads_the_watermark",
        "configs/test_watermark.py::test_a_small_picture_stays_as_it_is",
    ),
    "holes are filled under the pictures' own names": (
        "integration/test_originals.py::test_a_folder_of_pictures_is_filled_under_their_names",
    ),
}


@cache
def source(path: str) -> str:
    return (TESTS / path).read_text("utf-8")


@pytest.mark.parametrize("promise", HELD)
def test_the_tests_of_a_promise_exist(promise: str) -> None:
    places = [place.split("::") for place in HELD[promise]]
    assert [name for path, name in places if f"\ndef {name}(" not in source(path)] == []
