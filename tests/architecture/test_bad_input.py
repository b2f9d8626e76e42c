"""Every case of bad input has a test, and a row in docs/bad-input.md; none that was asked for is missing."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.errors import every_error
from tests.architecture.test_docs import DOCS, ROOT, all_modules

ASKED_FOR = {
    "Enqueue": (
        "unknown queue", "payload not JSON", "payload above max_payload", "NaN", "lone surrogates", "NUL",
        "5,000-digit number", "10,000 levels", "duplicate request keys", "groups above the limit",
        "ids that are not numbers", "negative ids", "ids of 2^70",
    ),
    "Handlers": (
        "handler cannot be imported", "handler not callable", "result not JSON", "result too large", "command missing",
        "command not executable", "brace without a payload member", "member that begins with -",
        "member that holds NUL", "member longer than the kernel takes",
    ),
    "Configuration": (
        "missing file", "unreadable file", "empty file", "directory", "FIFO", "file of 10 MB", "not UTF-8",
        "world-writable file", "duplicate keys", "booleans for numbers", "inf", "20,000-part dotted keys",
        "unknown keys", "keys of later versions", "two queues with one name", "invalid on reload",
    ),
    "Places": (
        "database in a missing folder", "database on a read-only file system", "database on a full disk",
        "database on a network file system", "not a database", "newer database", "hard-linked database",
        "database hard-linked while running", "database replaced while running", "database deleted while running",
        "socket path too long", "second daemon on the same run_dir",
        "second daemon on the same database by another name",
    ),
    "Wire": (
        "half a frame", "garbage", "2 GB length", "nothing for ever", "1,000 connections", "peer without permission",
    ),
    "Display": (
        "hostile text in payloads", "hostile text in queue names", "hostile text in errors", "hostile text in results",
    ),
}  # fmt: skip
"""What the project set out to answer, word by word."""

ENQUEUE = "system/test_cli_enqueue::test_a_bad_payload_is_refused_with_a_clear_error"
USAGE = "system/test_cli_enqueue::test_a_mistake_on_the_command_line_is_2"
CORPUS = "service/test_client_daemon::test_every_payload_is_kept_as_it_is_or_refused_before_anything_is_written"
UNUSABLE = "system/test_bad_handlers::test_what_cannot_be_used_opens_its_circuit_with_the_cause_and_its_jobs_wait"
ENDS = "system/test_bad_handlers::test_what_ends_its_process_at_its_import_is_tried_with_pauses_and_its_jobs_wait"
MENDED = "system/test_bad_handlers::test_what_is_mended_works_after_resume_and_its_jobs_have_waited"
RESULT = "system/test_executors::test_a_result_that_cannot_be_kept_is_a_failure"
SERVE = "system/test_serve"
UNFILLED = "system/test_executors::test_a_payload_that_fills_no_command_is_dead_at_once"
ARGUMENT = "unit/test_command_arguments::test_what_fills_no_argument_is_refused_naming_the_member"
FILE = "unit/test_config_bad_input::test_bad_input_is_a_clear_error_in_bounded_time"
START = "system/test_bad_configuration::test_a_daemon_does_not_start_with_a_bad_configuration_and_says_why"
RELOAD = "system/test_bad_configuration::test_a_running_daemon_keeps_its_configuration_whatever_it_is_told_to_reload"
PLACE = "system/test_bad_places::test_a_bad_place_is_refused_with_its_cause_and_unchanged"
CHANGED = (
    "system/test_bad_places::test_a_database_that_changes_while_running_is_left_within_two_seconds_and_nothing_is_lost"
)
SECOND = "system/test_bad_places::test_a_second_daemon_ends_at_once_naming_the_first"
GARBAGE = "system/test_bad_wire::test_garbage_is_answered_with_what_is_wrong_and_ends_the_connection"
SILENT = "system/test_bad_wire::test_who_says_nothing_more_is_told_after_ten_seconds_and_ended"
NO_ID = "system/test_bad_wire::test_what_is_no_id_is_a_mistake_and_the_connection_goes_on"
SHOWN = "system/test_bad_display::test_users_data_is_shown_and_not_obeyed"
JSON = "system/test_bad_display::test_json_is_ascii_and_has_it_all"
NAMED = "system/test_bad_display::test_what_is_named_on_the_command_line_is_shown_and_not_obeyed"
OPTION = "unit/test_wire_messages::test_an_option_that_is_not_what_it_may_be_is_named"
STREAMS = "system/test_streams"
STEP = "system/test_clocks::test_a_step_of_the_wall_clock_ends_no_running_job_and_stops_no_work"

TESTS: dict[str, dict[str, tuple[str, ...]]] = {
    "Enqueue": {
        "unknown queue": (
            "service/test_client_daemon::test_what_is_wrong_is_raised_as_what_it_is",
            "system/test_cli_enqueue::test_an_unknown_queue_stops_a_load_at_once",
        ),
        "queue of another scope": (
            "system/test_scopes::test_no_operation_shows_or_touches_what_another_scope_has",
            "system/test_scopes::test_what_a_handler_enqueues_stays_in_its_scope",
        ),
        "payload not JSON": (
            f"{ENQUEUE}[not JSON]", f"{ENQUEUE}[empty]", f"{ENQUEUE}[two values]", CORPUS,
            "system/test_cli_enqueue::test_a_payload_that_is_not_utf_8_is_refused",
            "system/test_cli_enqueue::test_lines_become_jobs_and_bad_lines_are_named",
        ),
        "payload above max_payload": (
            f"{ENQUEUE}[above max_payload]",
            "system/test_cli_enqueue::test_a_payload_above_every_limit_is_refused_before_it_is_read_to_its_end",
        ),
        "NaN": (f"{ENQUEUE}[NaN]", f"{ENQUEUE}[infinity]", f"{ENQUEUE}[1e999]", CORPUS),
        "lone surrogates": (f"{ENQUEUE}[lone surrogate]", CORPUS),
        "NUL": (f"{ENQUEUE}[NUL]", CORPUS),
        "5,000-digit number": (f"{ENQUEUE}[5,000 digits]", CORPUS),
        "10,000 levels": (
            f"{ENQUEUE}[10,000 levels]", CORPUS,
            "unit/test_wire_payload::test_checking_takes_no_longer_for_being_meant_badly",
        ),
        "duplicate request keys": (
            "system/test_bad_wire::test_the_same_key_over_two_connections_is_one_group",
            "system/test_bad_wire::test_a_member_given_twice_counts_once_for_access_and_action",
        ),
        "groups above the limit": (
            "system/test_bad_wire::test_a_group_above_the_limit_is_refused_whole_and_one_at_it_is_taken_whole",
        ),
        "ids that are not numbers": (f"{USAGE}[id that is no number]", NO_ID),
        "negative ids": (f"{USAGE}[negative id]", f"{USAGE}[id 0]", f"{NO_ID}[-1]"),
        "ids of 2^70": (f"{USAGE}[id 2^70]", f"{USAGE}[id beyond 2^53-1]", NO_ID),
        "key that is none": (OPTION,),
        "idempotency key that is none": (
            OPTION, "system/test_idempotency::test_a_key_that_is_none_is_refused", f"{USAGE}[empty idempotency key]",
        ),
        "one idempotency key for many": ("system/test_idempotency::test_one_key_for_many_jobs_is_refused",),
        "idempotency key where there can be none": (
            "system/test_idempotency::test_steps_callbacks_and_schedules_have_no_keys_and_it_is_said_what_they_have",
        ),
        "cost that is none": (OPTION,),
        "times that are none": ("system/test_retry_control::test_options_without_a_meaning_are_usage_errors",),
        "priority where there is none": (
            "system/test_cli_enqueue::test_a_priority_where_the_queue_has_no_order_by_it_is_refused",
        ),
        "member missing by which jobs are unique": (
            "system/test_queue_kinds::test_a_second_job_that_counts_as_the_same_is_the_first",
            "unit/test_policy_unique::test_a_payload_without_the_member_is_refused_with_its_name",
        ),
        "second job where one is wanted": ("system/test_queue_kinds::test_a_refusal_outlives_the_job",),
        "full queue": (
            "system/test_queue_kinds::test_a_full_queue_refuses_waits_or_drops",
            "system/test_queue_kinds::test_enqueueing_waits_for_room_as_long_as_its_caller_does",
        ),
    },
    "Handlers": {
        "handler cannot be imported": (
            f"{UNUSABLE}[missing_module]", f"{UNUSABLE}[raises_at_import]", f"{UNUSABLE}[bad_syntax]",
            f"{UNUSABLE}[exits_at_import]", f"{UNUSABLE}[missing_name]", ENDS, MENDED,
        ),
        "handler hangs at its import": (
            f"{UNUSABLE}[hangs_at_import]", f"{UNUSABLE}[hangs_unpreloaded]", f"{UNUSABLE}[hangs_deaf]",
        ),
        "handler not callable": (f"{UNUSABLE}[not_callable]",),
        "result not JSON": (f"{RESULT}[not_json-InvalidResult-not JSON]",),
        "result too large": (
            f"{RESULT}[too_large-ResultTooLarge-max_result is 1024]",
            "system/test_executors::test_a_command_that_prints_too_much_is_a_failure",
        ),
        "outcomes that are not one for each job of a batch": (
            "system/test_batches::test_what_says_nothing_about_each_job_fails_all_of_them",
            "unit/test_batch_executor::test_what_says_nothing_about_each_job_is_a_failure_of_all",
        ),
        "entry of a batch that cannot be kept": (
            "system/test_batches::test_each_job_of_a_batch_has_the_outcome_that_its_entry_says",
            "unit/test_batch_executor::test_an_entry_that_fails_is_its_own_jobs_alone",
        ),
        "command missing": (f"{UNUSABLE}[missing_command]", f"{UNUSABLE}[missing_cwd]"),
        "command not executable": (f"{UNUSABLE}[not_executable]", f"{UNUSABLE}[a_folder]", MENDED),
        "brace without a payload member": (UNFILLED, ARGUMENT),
        "member that begins with -": (
            UNFILLED, ARGUMENT,
            "system/test_executors::test_after_two_dashes_a_member_may_begin_with_one",
            "unit/test_command_arguments::test_two_dashes_of_a_payload_open_no_way_for_the_next_value",
        ),
        "member that holds NUL": (f"{ENQUEUE}[NUL]", ARGUMENT),
        "member longer than the kernel takes": (
            UNFILLED, ARGUMENT,
            "unit/test_command_arguments::test_the_kernel_takes_what_is_taken_here_and_no_more",
        ),
        "line that is no answer, of a command that [serves](serve.md)": (
            f"{SERVE}::test_a_line_that_is_no_answer_fails_its_job_and_no_other",
            f"{SERVE}::test_a_job_that_is_answered_before_it_was_read_has_failed",
        ),
        "line without a job": (
            f"{SERVE}::test_of_two_answers_the_first_counts_and_the_next_job_is_another_processs",
            f"{SERVE}::test_a_second_answer_in_the_place_of_the_next_jobs_charges_nobody",
        ),
        "answer that cannot be kept": (
            f"{SERVE}::test_an_answer_that_cannot_be_kept_fails_its_job_and_the_command_goes_on",
        ),
        "command that serves and does not become ready": (
            f"{SERVE}::test_a_command_that_does_not_become_ready_opens_its_circuit_and_its_jobs_wait",
        ),
    },
    "Configuration": {
        "missing file": (f"{FILE}[a file that is missing]", START, RELOAD),
        "unreadable file": ("unit/test_config_bad_input::test_a_file_that_cannot_be_read",),
        "empty file": (f"{FILE}[an empty file]", f"{FILE}[a file of comments only]", START, RELOAD),
        "directory": (f"{FILE}[a directory]", START, RELOAD),
        "FIFO": (
            f"{FILE}[a FIFO]", f"{FILE}[a device]", START, RELOAD,
            "unit/test_config_trust::test_a_socket_is_refused",
        ),
        "file of 10 MB": (f"{FILE}[10 MB]", START, RELOAD),
        "not UTF-8": (f"{FILE}[bytes that are not UTF-8]", f"{FILE}[a byte order mark]", START, RELOAD),
        "world-writable file": (
            f"{FILE}[a world-writable file]", f"{FILE}[a file in a world-writable directory]",
            f"{FILE}[a link into a world-writable directory]", START, RELOAD,
        ),
        "duplicate keys": (f"{FILE}[duplicate keys]", START, RELOAD),
        "booleans for numbers": (f"{FILE}[booleans for numbers]", START, RELOAD),
        "inf": (f"{FILE}[inf and nan]", f"{FILE}[huge numbers]", f"{FILE}[a number of 200,000 digits]", START, RELOAD),
        "20,000-part dotted keys": (
            f"{FILE}[a key of 20,000 dotted parts]", f"{FILE}[many keys of 200 parts]", f"{FILE}[10,000 brackets]",
            f"{FILE}[10,000 tables in each other]", START, RELOAD,
        ),
        "unknown keys": (f"{FILE}[unknown keys]", f"{FILE}[thousands of unknown keys]", START, RELOAD),
        "keys of later versions": (f"{FILE}[keys of later versions]", START, RELOAD),
        "two queues with one name": (f"{FILE}[two queues with one name]", START, RELOAD),
        "batches that cannot be": (
            "unit/test_config_batches::test_what_does_not_go_with_batches_is_named",
            "unit/test_config_batches::test_it_is_not_inherited",
            "unit/test_config_batches::test_where_a_pool_draws_it_stands_in_the_pool",
        ),
        "scopes that cannot be": (
            "unit/test_config_scopes::test_absurd_names_are_refused",
            "unit/test_config_scopes::test_what_is_wrong_with_a_scope_is_said_in_the_main_file",
            "unit/test_config_scopes::test_what_is_wrong_in_the_file_of_a_scope_is_said_there",
            "unit/test_config_scopes::test_a_scope_has_no_daemon_of_its_own",
            "unit/test_config_scopes::test_a_file_that_is_at_home_nowhere",
            "system/test_scopes::test_a_wrong_file_of_one_scope_changes_nothing_for_any",
        ),
        "schedules that cannot be meant": (
            "unit/test_config_schedules::test_all_problems_of_all_schedules_are_said_at_once",
            "system/test_cli_cron::test_mistakes_have_a_sentence_and_a_status",
        ),
        "limits, orders and keys that cannot be meant": (
            "unit/test_config_tables::test_keys_that_do_not_go_together_are_one_problem",
            "unit/test_config_tables::test_a_limit_that_is_not_there_is_named_with_the_nearest",
            "unit/test_config_tables::test_a_limit_that_limits_nothing_says_what_would",
            "unit/test_config_values::test_a_wrong_value_is_one_problem_that_says_what_would_be_right",
        ),
        "pools and patterns that cannot be meant": (
            "unit/test_config_tables::test_what_is_wrong_with_a_pool_is_said_of_its_key",
            "unit/test_config_tables::test_a_queue_is_drawn_from_by_one_pool",
            "unit/test_config_tables::test_a_queue_that_a_pool_draws_from_says_nothing_of_workers",
            "unit/test_config_tables::test_patterns_that_overlap_are_refused",
        ),
        "commands that cannot serve": (
            "unit/test_config_serve::test_what_cannot_serve_is_said_with_its_key",
        ),
        "rules for errors that cannot be meant": (
            "unit/test_config_retry::test_a_wrong_value_is_one_problem_that_says_what_would_be_right",
            "unit/test_config_retry::test_a_wrong_target_is_named_where_it_was_written",
        ),
        "alerts that reach nobody": ("unit/test_config_alerts::test_what_is_wrong_is_said_with_its_place",),
        "invalid on reload": (RELOAD, "system/test_reload::test_a_bad_file_changes_nothing_and_status_says_so"),
    },
    "Places": {
        "database in a missing folder": (f"{PLACE}[database in a missing folder]", f"{PLACE}[database below a file]"),
        "database on a read-only file system": (
            "system/test_bad_places::test_a_read_only_file_system_is_refused_and_can_be_looked_at",
            "unit/test_store_places::test_a_read_only_file_system_is_refused",
        ),
        "database on a full disk": (
            "system/test_bad_places::test_a_full_disk_under_load_refuses_with_the_cause_and_recovers_by_itself",
            "system/test_bad_places::test_outcomes_that_fit_are_settled_while_new_jobs_do_not_fit",
            "system/test_bad_places::test_what_was_buffered_and_does_not_fit_at_the_end_is_counted_and_74",
            "system/test_bad_places::test_a_daemon_that_starts_on_a_full_disk_names_the_cause_or_runs",
            "unit/test_store_places::test_a_full_disk_refuses_what_it_cannot_store_and_loses_nothing",
        ),
        "database locked by another program": (
            "system/test_bad_places::test_whoever_waits_for_a_locked_database_hears_the_cause_before_the_time_is_up",
        ),
        "run_dir on a full disk": (
            "system/test_bad_places::test_a_full_run_dir_costs_no_job_anything_and_says_who_waits_for_room",
            "service/test_slots::test_a_slot_that_finds_no_room_is_not_made_at_all",
        ),
        "database on a network file system": (
            "unit/test_store_places::test_a_network_file_system_is_refused",
            "unit/test_store_places::test_the_file_system_is_found_by_its_device",
        ),
        "not a database": (
            f"{PLACE}[not a database]", f"{PLACE}[another program's database]", f"{PLACE}[a folder as database]",
            f"{PLACE}[a FIFO as database]", "unit/test_store_places::test_a_truncated_database_is_refused",
        ),
        "newer database": (
            f"{PLACE}[newer database]",
            "unit/test_store_places::test_a_newer_database_that_was_killed_is_refused_with_its_wal_unchanged",
        ),
        "hard-linked database": (f"{PLACE}[hard-linked database]",),
        "database hard-linked while running": (f"{CHANGED}[hard-linked]",),
        "database replaced while running": (f"{CHANGED}[replaced]",),
        "database deleted while running": (
            f"{CHANGED}[moved away]",
            "system/test_bad_places::test_a_deleted_database_is_not_written_on_and_its_jobs_end_within_the_grace",
        ),
        "WAL deleted while running": (f"{CHANGED}[separated from its WAL]",),
        "lock file deleted while running": (f"{CHANGED}[separated from its lock]",),
        "database mounted as a single file": (
            "system/test_bad_places::test_a_database_mounted_as_a_single_file_is_refused",
        ),
        "socket path too long": (
            f"{PLACE}[a socket path too long]", f"{FILE}[a socket path that is too long]",
            "unit/test_config_load::test_the_socket_path_may_have_107_bytes",
        ),
        "no socket in the place of the socket": (f"{PLACE}[a file as socket]", f"{PLACE}[a file as run_dir]"),
        "no lock in the place of the lock": (f"{PLACE}[a FIFO as lock]",),
        "second daemon on the same run_dir": (
            f"{SECOND}[the same configuration]", f"{SECOND}[the same run_dir]",
            "system/test_bad_places::test_of_daemons_that_start_at_once_on_one_run_dir_one_runs",
        ),
        "second daemon on the same database by another name": (
            f"{SECOND}[a symbolic link to the database]", f"{SECOND}[a symbolic link to its folder]",
            "system/test_bad_places::test_a_second_daemon_by_a_second_mount_of_the_folder_ends_at_once",
        ),
        "one-shot keepers while a daemon starts": (
            "system/test_bad_places::test_a_daemon_that_starts_while_one_shot_keepers_work_takes_over_and_nothing_is_lost",
        ),
    },
    "Streams": {
        "log that nobody reads": (f"{STREAMS}::test_a_log_that_nobody_reads_holds_up_neither_jobs_nor_the_stop",),
        "log target that is none": (f"{STREAMS}::test_a_log_that_cannot_be_a_log_is_refused_at_once",),
        "log that cannot be reopened": (f"{STREAMS}::test_a_log_that_cannot_be_reopened_goes_on_where_it_was",),
        "closed standard streams": (
            f"{STREAMS}::test_closed_standard_streams_are_nobodys_files",
            f"{STREAMS}::test_jobsctl_does_its_work_with_closed_streams",
        ),
        "text beyond the locale": (f"{STREAMS}::test_text_that_the_locale_cannot_write_is_escaped",),
        "output without end": (f"{STREAMS}::test_a_job_that_prints_for_ever_does_not_fill_the_disk",),
    },
    "Wire": {
        "half a frame": ("system/test_bad_wire::test_half_a_frame_and_the_end_is_refused", SILENT),
        "garbage": (
            GARBAGE,
            "unit/test_wire_server::test_requests_before_garbage_that_came_with_earlier_reads_are_served",
            "unit/test_wire_server::test_no_bytes_whatever_harm_the_server",
        ),
        "2 GB length": (
            f"{GARBAGE}[a length of 2 GB]", f"{GARBAGE}[a length of 16 MiB and one byte]",
            "system/test_bad_wire::test_large_frames_that_never_end_take_bounded_memory",
            "unit/test_wire_framing::test_an_announced_length_takes_no_memory",
        ),
        "nothing for ever": (
            SILENT, "system/test_bad_wire::test_a_peer_that_asks_for_ever_and_never_reads_is_ended",
        ),
        "1,000 connections": (
            "system/test_bad_wire::test_a_thousand_connections_are_served_and_those_beyond_the_limit_told_so",
        ),
        "peer without permission": (
            "system/test_bad_wire::test_who_is_neither_owner_nor_group_cannot_open_the_socket",
            "system/test_bad_wire::test_who_may_open_the_socket_may_do_what_the_lists_say",
            "system/test_bad_wire::test_a_denied_flood_is_answered_but_hardly_logged",
            "system/test_cli_online::test_who_may_not_open_the_socket_is_told_so",
        ),
    },
    "Display": {
        "hostile text in payloads": (
            f"{SHOWN}[a payload]", f"{SHOWN}[a list]", f"{JSON}[a payload]",
            "system/test_cli_display::test_tab_separated_lines_stay_one_line_per_row",
            "system/test_cli_display::test_named_members_are_redacted_wherever_they_are_shown",
        ),
        "hostile text in queue names": (
            f"{NAMED}[a queue to enqueue to]", f"{NAMED}[a queue to list]", f"{NAMED}[a queue to add]",
            f"{FILE}[a queue name with escapes]",
            "system/test_bad_display::test_a_hostile_configuration_is_told_harmlessly",
        ),
        "hostile text in errors": (
            f"{SHOWN}[an error]", f"{SHOWN}[the stderr of a command]", f"{SHOWN}[why a circuit is open]",
            f"{SHOWN}[a list of the dead]", f"{JSON}[an error]",
            "system/test_bad_display::test_an_event_is_one_line_of_the_log_whatever_is_in_it",
            "system/test_bad_display::test_a_log_of_json_is_json_line_by_line_however_long_an_event_is",
        ),
        "hostile text in results": (
            f"{SHOWN}[a result]", f"{SHOWN}[the stdout of a command]", f"{JSON}[a result]",
        ),
    },
    "Clocks": {
        "wall clock set back": (
            f"{STEP}[back]",
            "system/test_clocks::test_what_a_backward_step_puts_off_runs_when_its_time_comes_again",
        ),
        "wall clock set forward": (
            f"{STEP}[forward]", "system/test_clocks::test_what_a_forward_step_makes_due_runs_at_once",
        ),
        "suspend": (
            "system/test_clocks::test_a_suspend_costs_no_process_and_only_jobs_whose_time_is_over_are_told",
            "unit/test_tree_deadlines::test_the_time_that_we_slept_is_held_against_nobody",
        ),
        "reboot": ("system/test_clocks::test_after_a_reboot_with_another_boot_clock_jobs_run_again_uncharged",),
    },
}  # fmt: skip
"""Section of docs/bad-input.md -> case -> the tests that show it, by file: a whole test, or one of its parameters."""


NAMES = {name for cases in TESTS.values() for names in cases.values() for name in names}


def rows() -> dict[str, list[list[str]]]:
    """The tables of the document: section -> cells of each row."""
    found: dict[str, list[list[str]]] = {}
    for part in re.split(r"^## ", (DOCS / "bad-input.md").read_text(), flags=re.MULTILINE)[1:]:
        lines = [line for line in part.splitlines() if line.startswith("| ")][1:]
        found[part.splitlines()[0]] = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return found


@pytest.fixture(scope="module")
def collected() -> set[str]:
    """The ids of the tests that there are, as pytest finds them in the files that are named."""
    files = sorted({f"tests/{name.partition('::')[0]}.py" for name in NAMES})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = re.findall(r"^tests/(.+?)\.py(::.+)$", ran.stdout, flags=re.MULTILINE)
    return {file + test for file, test in found}


def test_no_case_that_was_asked_for_is_missing() -> None:
    missing = {case for section, cases in ASKED_FOR.items() for case in cases if case not in TESTS[section]}
    assert missing == set()


@pytest.mark.parametrize("section", TESTS)
def test_every_case_has_tests_that_exist(collected: set[str], section: str) -> None:
    whole = {name.partition("[")[0] for name in collected}
    for case, names in TESTS[section].items():
        assert names, f"{case} has no test"
        gone = [name for name in names if name not in collected and name not in whole]
        assert gone == [], f"{case}: there is no such test"


def test_the_document_has_the_same_cases() -> None:
    told = {section: [cells[0] for cells in table] for section, table in rows().items()}
    assert told == {section: list(cases) for section, cases in TESTS.items()}


def test_every_row_of_the_document_is_whole_and_names_codes_that_there_are() -> None:
    for module in all_modules():
        importlib.import_module(module)
    codes = {error.code for error in every_error()}
    for table in rows().values():
        for cells in table:
            assert len(cells) == 4, cells
            assert all(cells), cells
            for code, _status in re.findall(r"`([a-z_]+)` \((\d+)\)", cells[2]):
                assert code in codes, cells


def test_no_test_of_bad_input_is_missing_from_the_table() -> None:
    """A test that someone adds to these files shows a case, or has a place of its own."""
    named = {name.partition("[")[0] for name in NAMES}
    for file in (
        "system/test_bad_places",
        "system/test_bad_wire",
        "system/test_clocks",
        "system/test_bad_configuration",
    ):
        tests = re.findall(r"^def (test_\w+)", (ROOT / "tests" / f"{file}.py").read_text(), flags=re.MULTILINE)
        assert [test for test in tests if f"{file}::{test}" not in named] == []


def test_what_is_named_in_docs_leads_somewhere() -> None:
    text = (DOCS / "bad-input.md").read_text()
    assert [link for link in re.findall(r"\]\(([\w.-]+)\)", text) if not Path(DOCS / link).exists()] == []
