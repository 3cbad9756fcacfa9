"""Every row of `docs/faults.md` is executed: which tests do it, row by row, and that they are there."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "faults.md"

ROWS = {
    # a run ends early
    "killed, out of memory, power cut, at any moment": """
        faults/test_kill.py::test_twenty_kills_and_the_same_bytes
        faults/test_attacks.py::test_a_few_strikes_do_no_harm""",
    "killed while it publishes": "faults/test_publication.py::test_ended_at_any_step_of_the_publication",
    "Ctrl-C or SIGTERM": """
        faults/test_kill.py::test_a_polite_stop_is_130_and_resumable
        faults/test_hostile_processes.py::test_ctrl_c_in_the_survey_ends_the_run_at_once
        faults/test_hostile_processes.py::test_more_signals_end_a_run_at_once""",
    "the terminal or the connection is closed (SIGHUP)": """
        faults/test_kill.py::test_a_polite_stop_is_130_and_resumable
        faults/test_hostile_processes.py::test_a_terminal_that_closes_is_heard_once_and_under_nohup_never
        endtoend/test_training.py::test_no_process_outlives_a_training""",
    "no memory can be had any more (`ulimit -v`, a full machine), wherever it is asked for": """
        faults/test_hostile_processes.py::test_a_program_without_memory_says_so
        faults/test_hostile_processes.py::test_a_block_without_memory_says_so
        faults/test_hostile_processes.py::test_linear_algebra_without_memory_does_not_wait_for_it
        faults/test_hostile_processes.py::test_no_thread_asks_for_a_buffer_that_may_be_refused
        faults/test_surroundings.py::test_no_memory_under_gdal_is_told_as_such""",
    "no more files may be opened (`ulimit -n`, a full machine)": """
        faults/test_surroundings.py::test_a_process_that_may_open_no_more_files_says_so""",
    "disk full": """
        faults/test_bad_runs.py::test_a_full_disk
        faults/test_surroundings.py::test_a_full_disk_under_gdal_is_told_as_one
        faults/test_surroundings.py::test_a_result_that_is_cut_off_without_a_word_is_the_disk_s
        faults/test_surroundings.py::test_a_summary_that_cannot_be_written_hides_no_error""",
    "a disk that has space but cannot hold another file (inodes used up)": """
        faults/test_surroundings.py::test_a_disk_that_is_full_of_files""",
    "a quota is used up, or a file would be larger than allowed (`ulimit -f`, the file system)": """
        faults/test_surroundings.py::test_each_limit_of_what_may_be_written_is_named""",
    "a file system that cannot force folders to disk, or does not say how much is free (some shares)": """
        faults/test_surroundings.py::test_a_file_system_that_knows_less
        faults/test_surroundings.py::test_a_failing_disk_is_no_weak_file_system
        faults/test_surroundings.py::test_a_disk_that_holds_nothing_says_nothing_of_its_room""",
    "the log or terminal can no longer be written to (a full disk, a lost connection, closed streams)": """
        faults/test_surroundings.py::test_a_log_on_a_full_disk_ends_no_run
        faults/test_surroundings.py::test_no_file_takes_the_place_of_a_closed_stream""",
    "who reads the answer goes away (a pipe into `head`)": """
        faults/test_surroundings.py::test_a_reader_that_went_away_is_no_error""",
    "some blocks fail on every attempt": "faults/test_bad_runs.py::test_blocks_that_fail_on_every_attempt",
    "an image of a batch fails": "faults/test_bad_runs.py::test_one_bad_image_does_not_stop_the_batch",
    "an image fails, after its plan or before": """
        endtoend/test_group.py::test_what_failed_leaves_a_record
        endtoend/test_group.py::test_a_failure_leaves_what_was_there""",
    "an error that nobody foresaw": """
        faults/test_bad_runs.py::test_what_nobody_foresaw_is_the_image_s_own
        faults/test_bad_runs.py::test_what_nobody_foresaw_in_a_single_image""",
    "two runs with one folder of results end at the same time (jobs of an array, an image each)": """
        faults/test_output_folder.py::test_two_runs_that_end_at_the_same_time""",
    "the output is used by another run, also one with another `compute.scratch`": """
        faults/test_bad_runs.py::test_an_output_in_use
        faults/test_bad_runs.py::test_an_output_in_use_with_another_scratch_folder""",
    "`compute.scratch` is changed while a run is not finished": """
        faults/test_bad_runs.py::test_an_unfinished_run_with_another_scratch_folder
        faults/test_bad_runs.py::test_a_scratch_folder_that_is_not_seen""",
    "`compute.scratch` is shared by users or projects whose images have the same names": """
        faults/test_bad_runs.py::test_a_scratch_folder_of_others""",
    "a folder or disk that can no longer be written to (read-only, no permission, a failing disk)": """
        faults/test_bad_runs.py::test_a_folder_that_can_no_longer_be_written
        faults/test_surroundings.py::test_what_gdal_alone_says_of_a_failing_disk_is_no_bug
        unit/test_journal_lock.py::test_a_lock_that_fails_is_not_in_use""",
    "a disk fails while an image, a mask or results are read": """
        faults/test_surroundings.py::test_results_on_a_failing_disk
        unit/test_formats_files.py::test_a_file_on_a_failing_disk_is_not_empty""",
    "a file system without locks": "faults/test_bad_runs.py::test_an_output_without_locks",
    "a file system that gives a file another number (inode) each time, as some in user space do": """
        faults/test_bad_runs.py::test_an_output_whose_files_have_no_numbers_of_their_own
        unit/test_journal_lock.py::test_a_file_system_that_makes_numbers_of_files_up_is_refused""",
    # files were damaged or changed
    "a block, the plan, the survey or its arrays in `.work` flipped, cut off or gone": """
        faults/test_damage.py::test_a_damaged_work_folder
        faults/test_damage.py::test_blocks_that_do_not_match_are_computed_again""",
    "the plan or the survey of an unfinished run edited, also so that it fits its own hash": """
        faults/test_edited_work.py::test_an_edited_plan_is_not_gone_on_with
        faults/test_edited_work.py::test_an_edited_survey_is_not_gone_on_with
        faults/test_edited_work.py::test_a_plan_and_a_survey_that_were_edited_together
        faults/test_edited_work.py::test_all_that_names_the_plan_was_edited_with_it
        faults/test_edited_work.py::test_a_survey_without_what_the_record_needs
        faults/test_edited_work.py::test_a_share_does_not_go_on_with_an_edited_plan""",
    "a line of the journal in `.work` flipped, cut off, gone, or written by somebody else": """
        faults/test_damage.py::test_a_damaged_work_folder
        unit/test_journal_lock.py::test_a_whole_line_that_no_block_has_written_counts_as_nothing
        unit/test_journal_lock.py::test_a_block_that_the_plan_does_not_have_is_not_done""",
    "the note of a publication (`publishing.json`) damaged, or written by somebody else": """
        faults/test_publication.py::test_a_note_removes_nothing_outside_of_the_old_results""",
    "`report` is ended half way": "faults/test_publication.py::test_a_report_that_is_ended_half_way_is_made_again",
    "`.work/<stem>/request` damaged": "faults/test_damage.py::test_a_damaged_work_folder",
    "a published file changed after the run": "faults/test_publication.py::test_a_changed_result_is_no_finished_one",
    "a published file is missing": "faults/test_publication.py::test_a_missing_result_is_no_finished_one",
    "`record.json` damaged, or edited so that it lacks what they need": """
        faults/test_publication.py::test_a_record_without_a_part_is_a_damaged_one
        faults/test_publication.py::test_a_record_that_was_edited_is_told_as_one
        faults/test_publication.py::test_a_run_says_of_an_edited_record_that_it_is_one
        faults/test_publication.py::test_a_bug_is_not_blamed_on_the_record""",
    "`record.json`, or the plan or survey in `.work` beside it, edited so that it fits its own hash": """
        faults/test_publication.py::test_what_was_edited_with_its_hash_contradicts_the_rest""",
    "what `verify` needs of `.work` beside finished results damaged": """
        faults/test_publication.py::test_damage_beside_the_results_is_no_broken_promise""",
    "a pipe or device in the place of a result": """
        faults/test_publication.py::test_a_pipe_in_the_place_of_a_result_is_not_waited_for""",
    "an input of results, or the mask of a reference, changed or is gone": """
        faults/test_output_folder.py::test_verify_goes_on_after_what_it_cannot_read""",
    "`verify` or `status` while a run replaces the results": """
        faults/test_output_folder.py::test_results_that_are_replaced_while_they_are_looked_at""",
    "`report` while a run works for the same image, or a run while its `report` is made": """
        faults/test_output_folder.py::test_no_run_replaces_results_whose_report_is_made""",
    "the folder of results is moved or removed while the run goes on": """
        faults/test_output_folder.py::test_a_folder_that_is_moved_while_the_run_goes_on""",
    "an input changes while the run goes on": """
        faults/test_output_folder.py::test_an_input_that_changes_while_the_run_goes_on""",
    "an input changed between interruption and rerun": """
        faults/test_output_folder.py::test_an_input_that_changed_after_an_interruption""",
    "results of another version of this program": "faults/test_versions.py::test_results_of_another_version",
    "an unfinished run of another version": "faults/test_versions.py::test_an_unfinished_run_of_another_version",
    "the folder of a project is moved or renamed": "faults/test_versions.py::test_a_project_that_was_moved",
    # your files
    "keep files of your own in a folder of results": """
        faults/test_publication.py::test_ended_at_any_step_of_the_publication""",
    "have a file with the name of a result that no record lists": """
        faults/test_publication.py::test_files_of_others_with_names_of_results_are_not_replaced""",
    "put the input, or its mask, into the folder of its results": """
        faults/test_output_folder.py::test_what_is_read_is_never_replaced
        faults/test_publication.py::test_an_input_behind_a_link_is_not_replaced""",
    "name an address other than `s3://bucket/name` as folder of results, or any as scratch": """
        faults/test_bad_config.py::test_wrong_overrides_are_explained""",
    "name an address other than `s3://` as NIfTI or zarr": """
        faults/test_bad_files.py::test_formats_that_cannot_be_read_from_an_address_say_so""",
    "call a file `...tif`, or give a URL with a query": """
        faults/test_publication.py::test_names_stay_inside_the_output_folder
        faults/test_privacy.py::test_no_credentials_in_results_or_messages""",
    "put a file with the name of a result there while the run goes on": """
        faults/test_output_folder.py::test_a_file_with_the_name_of_a_result_that_comes_while_the_run_goes_on""",
    "have a `run.json` of your own in `output.directory`, or other files where `evaluate` writes": """
        faults/test_output_folder.py::test_a_summary_of_somebody_else_is_not_replaced
        endtoend/test_evaluate.py::test_an_evaluation_is_replaced_in_one_step""",
    "restore in one batch an image and another one that reads its results": """
        faults/test_output_folder.py::test_an_image_of_a_batch_reads_no_result_of_another""",
    "restore by a glob that also takes the results of the same config": """
        faults/test_output_folder.py::test_a_glob_leaves_out_what_its_run_has_written""",
    "name the image itself as its reference, also as a link or a copy": """
        endtoend/test_input_options.py::test_the_image_is_no_reference_of_itself
        endtoend/test_input_options.py::test_a_glob_of_dates_leaves_out_the_image_itself""",
    "name an image twice, by two globs or by hand": """
        unit/test_catalog.py::test_an_image_that_two_globs_take_is_restored_once
        unit/test_catalog.py::test_a_file_is_one_band_of_an_image""",
    "restore an image that is called like a file of a run (`record.json.tif`)": """
        faults/test_hostile_paths.py::test_an_image_with_the_name_of_a_file_of_a_run""",
    "restore images whose names differ in case or in Unicode's forms only": """
        unit/test_catalog.py::test_names_that_other_file_systems_take_for_one_are_apart""",
    "share a folder of results with other users": """
        faults/test_surroundings.py::test_a_summary_that_only_another_user_may_replace
        faults/test_surroundings.py::test_results_of_another_user_are_not_made_again_for_nothing""",
    "name a folder of results below a file": "faults/test_surroundings.py::test_results_below_a_file",
    "have a link in the place of a work folder (`.work/<stem>`)": """
        faults/test_output_folder.py::test_a_work_folder_that_leads_elsewhere_is_refused""",
    "`verify` results on a read-only disk": """
        faults/test_output_folder.py::test_results_that_nobody_may_write_to_can_be_verified""",
    "train to an `output` where an image, a config, a table or a log of yours lies": """
        unit/test_training_beside.py::test_no_file_of_others_is_replaced""",
    "train without `--resume` where a training was stopped": """
        unit/test_training_beside.py::test_a_training_that_was_stopped_is_not_begun_anew""",
    "search (`train --search`) where a training was stopped, or a file of yours has the name of what it writes": """
        unit/test_training_stops.py::test_a_search_replaces_no_training_that_was_stopped
        unit/test_training_stops.py::test_a_search_replaces_nothing_of_somebody_else""",
    "`--overwrite` a config that is refused, or whose mask cannot be read": """
        faults/test_publication.py::test_the_old_result_stays_until_the_new_one_is_complete""",
    # files and configs from others
    "a pipe, device, socket or folder as image, mask, config or weights": """
        faults/test_hostile_files.py::test_what_is_no_file_is_refused_unopened
        faults/test_hostile_paths.py::test_masks_that_are_no_file
        faults/test_hostile_config.py::test_a_config_that_is_no_file
        faults/test_hostile_weights.py::test_weights_that_are_no_file""",
    "a zarr array in a codec that no installed package brings": """
        unit/test_formats_zarr.py::test_a_codec_that_nobody_brings_is_named""",
    "the file in which GDAL keeps what belongs to an image (`.aux.xml`) is cut off": """
        faults/test_hostile_files.py::test_what_gdal_keeps_beside_an_image_is_not_lost_in_silence""",
    "a config of dask (`~/.config/dask`, `/etc/dask`) cannot be read": """
        faults/test_surroundings.py::test_a_config_of_dask_that_cannot_be_read""",
    "`sbatch` of a site prints other numbers before that of the job": """
        cluster/test_cluster.py::test_the_number_of_a_job_is_that_of_its_submission""",
    "a damaged GeoTIFF, NIfTI, gzip or zarr, or a header that claims more than the file holds": """
        faults/test_bad_runs.py::test_a_truncated_image
        faults/test_bad_files.py::test_damaged_tile_names_its_window
        faults/test_bad_files.py::test_truncated_gzip_says_how_far_it_went
        faults/test_bad_files.py::test_damaged_zarr_chunk_names_its_window
        faults/test_hostile_files.py::test_random_damage_is_an_error_of_the_file_or_reads
        faults/test_hostile_files.py::test_tiffs_that_claim_more_than_they_hold
        faults/test_hostile_files.py::test_nifti_headers_that_make_no_sense
        faults/test_hostile_files.py::test_zarr_metadata_that_make_no_sense""",
    "a file whose name is not UTF-8": "unit/test_formats_files.py::test_a_name_that_is_no_text_is_said",
    "a config in UTF-16, as some editors and shells write it": """
        faults/test_hostile_config.py::test_text_that_is_a_trap""",
    "a value of nodata that no pixel can have (-9999, `.inf` or `nan` of unsigned whole numbers)": """
        faults/test_bad_runs.py::test_a_nodata_value_that_no_pixel_can_have""",
    "a file or band whose name commands a terminal (clears the screen, hides what follows, begins a line)": """
        faults/test_surroundings.py::test_names_do_not_command_the_terminal
        faults/test_surroundings.py::test_a_line_break_in_a_name""",
    "a VRT with raw bands, program code, other formats, or a local one with URLs": """
        faults/test_hostile_vrt.py::test_raw_bands_are_refused_whatever_they_are_called
        faults/test_hostile_vrt.py::test_what_a_vrt_may_not_contain
        faults/test_hostile_vrt.py::test_local_files_do_not_reach_the_network""",
    "YAML with aliases in aliases, deep nesting, tags, over 512 KiB or 10,000 values": """
        faults/test_hostile_config.py::test_text_that_is_a_trap""",
    "a reference system that is a file or an address (`crs` of a config, of GeoJSON, of zarr)": """
        unit/test_masks_vector.py::test_a_reference_system_is_no_file_and_no_address
        endtoend/test_region.py::test_bounds_name_every_pixel_that_they_touch
        cases/test_zarr.py::test_what_an_array_says_must_be_right""",
    "numbers that are absurd (`block: 0`, `1e300 px`, a buffer of nan, an option out of range)": """
        faults/test_hostile_config.py::test_sizes_that_make_no_sense
        faults/test_hostile_config.py::test_values_that_make_no_sense""",
    "a checkpoint that is damaged, or holds a program": """
        unit/test_training_beside.py::test_a_checkpoint_that_is_none_is_told_and_not_executed""",
    "a card or weights that would take gigabytes, are not finite, or explode": """
        faults/test_hostile_weights.py::test_networks_that_no_image_needs
        faults/test_hostile_weights.py::test_files_that_claim_to_be_weights
        faults/test_hostile_weights.py::test_weights_that_are_not_finite
        faults/test_hostile_weights.py::test_weights_that_explode""",
    # processes
    "a worker is killed while blocks run": "faults/test_kill.py::test_a_killed_worker_is_replaced",
    "a second Ctrl-C or SIGTERM while workers start or work": """
        faults/test_hostile_processes.py::test_a_folder_that_an_ended_run_left_behind_is_removed
        unit/test_process.py::test_who_is_ended_at_once_leaves_no_half_started_process
        faults/test_kill.py::test_a_second_stop_while_workers_start_ends_at_once""",
    "a worker is killed while the cluster starts, or none comes up": """
        faults/test_hostile_processes.py::test_a_worker_killed_while_the_cluster_starts_is_no_traceback
        faults/test_hostile_processes.py::test_a_cluster_that_cannot_start_says_why""",
    "a container, a job or `ulimit -v` allows less than the machine has (memory, time of its cores)": """
        unit/test_bounds.py::test_memory_is_what_the_innermost_limit_leaves
        unit/test_bounds.py::test_cores_are_what_a_quota_leaves
        unit/test_bounds.py::test_addresses_are_a_limit
        unit/test_bounds.py::test_no_run_takes_more_than_its_container_has""",
    "`/dev/shm` read-only, no memory, more than 8 workers a core": """
        faults/test_hostile_processes.py::test_a_cluster_that_cannot_start_says_why
        faults/test_hostile_processes.py::test_a_program_without_memory_says_so
        faults/test_hostile_processes.py::test_more_workers_than_a_machine_can_start_are_refused""",
    "`PROJ_LIB` or `PROJ_DATA` names the data base of another program (QGIS, PostGIS, another conda)": """
        faults/test_surroundings.py::test_a_data_base_of_reference_systems_that_is_not_there""",
    "a driver of GDAL that a run needs is missing, or `GDAL_SKIP` takes it away": """
        faults/test_surroundings.py::test_a_driver_of_gdal_that_is_switched_off
        faults/test_surroundings.py::test_a_gdal_without_a_driver""",
    "the folder that a command was called in was removed meanwhile": """
        faults/test_surroundings.py::test_a_working_folder_that_is_gone""",
    "the disk of a training is full": """
        unit/test_training_stops.py::test_a_full_disk_ends_a_training_with_a_word
        unit/test_training_stops.py::test_python_ends_what_hears_no_signal
        unit/test_training_stops.py::test_a_log_on_a_full_disk_ends_no_training""",
    "two trainings are told the same `output`": """
        unit/test_training_stops.py::test_two_trainings_do_not_share_an_output""",
    "a process of a training is killed": """
        unit/test_training_stops.py::test_a_process_that_dies_says_what_to_do
        faults/test_hostile_processes.py::test_a_pool_that_loses_a_waiting_process_ends""",
    "Python forks a process after a call of `pipeline.api`, which calls it, too": """
        endtoend/test_api_messages.py::test_a_process_that_was_forked_after_a_call_is_refused""",
    "a worker of `multiprocessing.Pool` or of a dask cluster of yours restores an image": """
        faults/test_hostile_processes.py::test_a_worker_of_a_pool_starts_no_workers""",
    "another user of the machine connects to the cluster of a run": """
        faults/test_hostile_processes.py::test_nobody_else_can_use_a_local_cluster""",
    # clusters
    "Slurm refuses the job (partition, account, memory)": """
        cluster/test_slurm.py::test_a_refused_job_is_said_at_once
        cluster/test_cluster.py::test_plan_prints_the_job_script""",
    "Slurm's controller, all of its nodes or the partition are away when jobs are asked for": """
        unit/test_slurm_answers.py::test_a_controller_that_is_away_has_nothing_against_a_job
        unit/test_slurm_answers.py::test_nodes_that_are_all_away_have_nothing_against_a_job""",
    "no job starts within `start_timeout`": "cluster/test_slurm.py::test_a_job_that_never_runs_is_given_up",
    "a job is cancelled, or its node is lost": """
        cluster/test_slurm.py::test_a_cancelled_job_is_replaced
        cluster/test_slurm.py::test_a_lost_node_costs_the_blocks_in_flight""",
    "a worker is lost in the self-test": """
        cluster/test_cluster.py::test_workers_of_a_running_scheduler_give_the_same_bytes
        cluster/test_crew.py::test_a_window_that_ends_every_worker_is_said""",
    "a plan is refused, or a stop comes, while workers do the self-test": """
        cluster/test_crew.py::test_a_refused_plan_leaves_no_worker
        cluster/test_crew.py::test_a_stop_ends_the_waiting""",
    "workers reach their walltime": """
        cluster/test_slurm.py::test_workers_that_leave_before_their_time_is_up_are_replaced""",
    "the client is killed": "cluster/test_slurm.py::test_a_stopped_or_killed_client_goes_on_where_it_was",
    "the time of a run, or of any other command, is nearly up (SIGUSR1, SIGUSR2 of Grid Engine and LSF, SIGXCPU)": """
        faults/test_hostile_processes.py::test_every_command_says_why_it_stopped
        unit/test_training_stops.py::test_a_training_whose_time_is_up_says_so
        unit/test_bids.py::test_a_stop_is_one_of_the_whole_data_set
        cluster/test_slurm.py::test_a_run_whose_own_time_is_up_says_so
        faults/test_hostile_processes.py::test_a_job_whose_time_is_nearly_up_is_told_so_as_often_as_one_likes""",
    "clocks of machines differ, or a clock is set back or forth while a run goes on": """
        faults/test_hostile_processes.py::test_workers_whose_clock_is_wrong_are_let_in
        faults/test_surroundings.py::test_no_byte_depends_on_the_time""",
    "`assemble` where shares of another config or input are not finished": """
        faults/test_shards.py::test_what_is_left_of_the_shares_a_run_computes""",
    "a share of a job array is killed, also the one that surveys": """
        faults/test_shards.py::test_eight_shares_at_once_one_killed_and_the_same_bytes
        faults/test_shards.py::test_the_share_that_surveys_is_killed_and_another_takes_over
        faults/test_shards.py::test_what_is_left_of_the_shares_a_run_computes""",
    "a scheduler does not answer, ends or has no workers": """
        cluster/test_crew.py::test_a_scheduler_that_drops_windows_is_gone
        cluster/test_crew.py::test_nobody_is_waited_for_for_ever
        cluster/test_cluster.py::test_a_scheduler_that_does_not_answer
        cluster/test_cluster.py::test_a_scheduler_without_workers""",
    "workers have other versions, or do not see the output folder": """
        cluster/test_cluster.py::test_workers_that_cannot_do_the_work_are_named
        cluster/test_cluster.py::test_workers_without_the_program""",
    "files of other machines are seen late (NFS)": """
        faults/test_late.py::test_workers_and_client_that_see_each_other_late_give_the_same_bytes
        faults/test_late.py::test_workers_that_never_see_the_plan_are_named
        faults/test_late.py::test_blocks_that_are_never_seen_are_an_error
        faults/test_late.py::test_shares_of_other_machines_are_waited_for
        faults/test_late.py::test_common_work_that_is_seen_late_is_joined""",
    "jobs end before their worker has come": """
        cluster/test_slurm.py::test_jobs_cancelled_before_their_worker_has_come_are_replaced
        cluster/test_slurm.py::test_jobs_that_always_end_at_once_are_given_up_soon
        cluster/test_cluster.py::test_what_jobs_said_last_stands_in_the_message""",
    "a worker may not write to the output folder (mounted read-only there)": """
        cluster/test_cluster.py::test_workers_that_cannot_do_the_work_are_named""",
    "credentials of the jobs cannot be written (`shared_temp_directory`)": """
        cluster/test_cluster.py::test_credentials_that_cannot_be_written_are_the_config_s""",
    "the memory of a GPU is full": """
        unit/test_gpus.py::test_a_run_on_a_full_gpu_ends_well_and_says_so
        unit/test_gpus.py::test_a_gpu_without_memory_for_one_channel_is_said""",
    "workers of jobs have no GPU, and the network runs on one": """
        unit/test_gpus.py::test_workers_without_a_gpu_are_named""",
    "the network computes in bfloat16, and the processor of a worker, or of who goes on, does not": """
        unit/test_precision.py::test_workers_with_other_processors_are_named
        unit/test_precision.py::test_a_run_goes_on_in_the_precision_it_began_with""",
    "dask-jobqueue is not installed": "cluster/test_cluster.py::test_what_to_install_for_jobs_is_said",
    # object storage
    "the connection is lost, or the server is slow or overloaded": """
        faults/test_objects.py::test_a_lost_connection_in_the_middle
        faults/test_objects.py::test_an_image_that_cannot_be_fetched
        faults/test_objects.py::test_a_slow_or_overloaded_server
        faults/test_objects.py::test_a_passing_fault_is_not_seen""",
    "a run is killed while its results are sent": """
        faults/test_objects.py::test_a_lost_connection_in_the_middle
        faults/test_objects.py::test_a_stop_while_it_is_sent
        faults/test_objects.py::test_the_same_run_goes_on_with_its_own""",
    "a run is killed while the new results take their names": """
        faults/test_objects.py::test_lost_while_it_publishes""",
    "a result arrives damaged": "faults/test_objects.py::test_what_arrives_damaged",
    "another run works for the same address": """
        faults/test_objects.py::test_in_use_by_another_run
        faults/test_objects.py::test_one_at_a_time
        faults/test_objects.py::test_a_sign_of_life""",
    "a run was killed and another machine goes on": """
        faults/test_objects.py::test_the_dead_are_replaced
        faults/test_objects.py::test_lost_while_it_publishes""",
    "a run is taken for dead, and comes back": "faults/test_objects.py::test_another_run_has_taken_the_lock",
    "a bucket, object or permission is missing, or there are no credentials": """
        faults/test_objects.py::test_what_is_not_there
        faults/test_objects.py::test_no_permission
        faults/test_objects.py::test_no_credentials""",
    "a result was changed or removed there": "faults/test_objects.py::test_a_changed_result_is_no_finished_one",
    "objects of others have the names of results": "faults/test_objects.py::test_files_of_others",
    "an image lies where its results would go": """
        faults/test_objects.py::test_an_image_where_its_results_would_go""",
    "a server ignores conditions of writes, so that no lock holds": """
        faults/test_objects.py::test_a_server_on_which_no_lock_holds""",
    "boto3 is not installed": "faults/test_objects.py::test_without_the_library",
    # what leaves the machine
    "credentials of object storage": """
        faults/test_objects.py::test_the_record_names_addresses_and_no_folders
        faults/test_objects.py::test_no_permission""",
    "users, passwords and queries of URLs": """
        faults/test_privacy.py::test_no_credentials_in_results_or_messages
        faults/test_privacy.py::test_no_credentials_in_errors""",
    "names of folders outside that of the config": """
        faults/test_privacy.py::test_no_folder_names_in_results
        faults/test_privacy.py::test_files_that_belong_to_an_input_are_named_like_it
        faults/test_privacy.py::test_absolute_paths_on_request""",
    # how it is tried
    **dict.fromkeys(("kills", "damage", "mutants"), "faults/test_attacks.py::test_a_few_strikes_do_no_harm"),
}
"""First cell of a row -> the tests that make it happen and check what it says, one a line."""


def _first_cells() -> list[str]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    below = [*lines[1:], ""]
    rows = [line for line, next_one in zip(lines, below, strict=True) if line[:2] == "| " and next_one[:4] != "|---"]
    return [row.removeprefix("| ").split(" | ")[0] for row in rows]


@cache
def _tests_of(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_row_has_its_tests() -> None:
    """A new or changed row needs a look at its tests, and a row that is gone leaves none here."""
    assert sorted(_first_cells()) == sorted(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_the_tests_of_a_row_exist(row: str) -> None:
    """Under the names that stand here."""
    names = [name.split("::") for name in ROWS[row].split()]
    assert names
    assert [name for file, name in names if name not in _tests_of(file)] == []
