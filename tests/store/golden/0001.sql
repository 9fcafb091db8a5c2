BEGIN TRANSACTION;
CREATE TABLE artifacts (
	experiment_id TEXT NOT NULL, 
	path TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	sha256 TEXT NOT NULL, 
	bytes BIGINT NOT NULL, 
	PRIMARY KEY (experiment_id, path), 
	CONSTRAINT fk_artifacts_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
INSERT INTO "artifacts" VALUES('run-1','run-1/report.txt','report','5ac03da17d7d5241b49a9a94f86b08a431d7052c8585ca997b373f0bc7da0dcc',7);
CREATE TABLE attempts (
	run_id INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	started TEXT NOT NULL, 
	ended TEXT, 
	host TEXT, 
	pid INTEGER, 
	resumed_step BIGINT, 
	valid_to_step BIGINT, 
	PRIMARY KEY (run_id, attempt), 
	CONSTRAINT fk_attempts_run_id FOREIGN KEY(run_id) REFERENCES experiments (id) ON DELETE CASCADE
);
INSERT INTO "attempts" VALUES(1,1,'INTERRUPTED','2026-01-01T00:00:00.000Z','2026-01-01T00:00:01.000Z','box',1,NULL,4);
INSERT INTO "attempts" VALUES(1,2,'COMPLETED','2026-01-01T00:00:00.000Z','2026-01-01T00:00:01.000Z','box',1,4,NULL);
INSERT INTO "attempts" VALUES(2,1,'FAILED','2026-01-01T00:00:00.000Z','2026-01-01T00:00:01.000Z','box',1,NULL,NULL);
CREATE TABLE experiments (
	id INTEGER NOT NULL, 
	experiment_id TEXT NOT NULL, 
	run_type TEXT NOT NULL, 
	timestamp TEXT NOT NULL, 
	experiment_name TEXT NOT NULL, 
	model_type TEXT, 
	dataset_name TEXT, 
	dataset_type TEXT, 
	epochs INTEGER, 
	batch_size INTEGER, 
	full_config_json TEXT NOT NULL, 
	env_details_json TEXT NOT NULL, 
	project TEXT, 
	group_name TEXT, 
	parent TEXT, 
	phase TEXT, 
	status TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	seed BIGINT, 
	study TEXT, 
	trial INTEGER, 
	config_hash TEXT, 
	code_hash TEXT, 
	data_hash TEXT, 
	schema_hash TEXT, 
	git_commit TEXT, 
	git_diff TEXT, 
	argv TEXT, 
	hardware TEXT, 
	host TEXT, 
	pid INTEGER, 
	process TEXT, 
	heartbeat TEXT, 
	ended TEXT, 
	error TEXT, 
	contended BOOLEAN NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_experiments_experiment_id UNIQUE (experiment_id), 
	CONSTRAINT fk_experiments_parent FOREIGN KEY(parent) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_experiments_schema_hash FOREIGN KEY(schema_hash) REFERENCES schemas (hash)
);
INSERT INTO "experiments" VALUES(1,'run-1','json','2026-01-01T00:00:00.000Z','a run','moe','parity','synthetic',3,64,'{"model_type": "moe", "model_params": {"top_k": 2, "bias": true}}','{"python": "3.11"}','p ''ü'' 🦉',NULL,NULL,'search','COMPLETED',2,3,'s',0,'c','k','d','ff419ebbeba438f66900abe77818ce940702bdfe70fa173cb94beecee8d3f112','abc','+ a
- b','["run"]','cpu','box',1,'elsewhere 1','2026-01-01T00:00:01.000Z','2026-01-01T00:00:02.000Z',NULL,0);
INSERT INTO "experiments" VALUES(2,'run-2','json','2026-01-02T00:00:00.000Z','a run',NULL,NULL,NULL,NULL,NULL,'{"model_type": "moe", "model_params": {"top_k": 2, "bias": true}}','{"python": "3.11"}',NULL,NULL,'run-1',NULL,'FAILED',1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'box',1,'elsewhere 1','2026-01-02T00:00:01.000Z','2026-01-02T00:00:02.000Z','Traceback: boom
line',0);
CREATE TABLE expert_stats (
	run_id INTEGER NOT NULL, 
	name_id INTEGER NOT NULL, 
	step BIGINT NOT NULL, 
	layer INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	dtype TEXT NOT NULL, 
	shape TEXT NOT NULL, 
	data BLOB NOT NULL, 
	PRIMARY KEY (run_id, name_id, step, layer, attempt), 
	CONSTRAINT fk_expert_stats_run_id FOREIGN KEY(run_id) REFERENCES experiments (id) ON DELETE CASCADE, 
	CONSTRAINT fk_expert_stats_name_id FOREIGN KEY(name_id) REFERENCES names (id)
);
INSERT INTO "expert_stats" VALUES(1,1,4,0,1,'<f4','[2]',X'0000803E0000403F');
CREATE TABLE flags (
	experiment_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (experiment_id, name), 
	CONSTRAINT fk_flags_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
INSERT INTO "flags" VALUES('run-1','floor','below ln V');
CREATE TABLE metric_points (
	run_id INTEGER NOT NULL, 
	name_id INTEGER NOT NULL, 
	step BIGINT NOT NULL, 
	attempt INTEGER NOT NULL, 
	seq BIGINT NOT NULL, 
	value DOUBLE, 
	time DOUBLE NOT NULL, 
	PRIMARY KEY (run_id, name_id, step, attempt, seq), 
	CONSTRAINT fk_metric_points_run_id FOREIGN KEY(run_id) REFERENCES experiments (id) ON DELETE CASCADE, 
	CONSTRAINT fk_metric_points_name_id FOREIGN KEY(name_id) REFERENCES names (id)
)
 WITHOUT ROWID

;
INSERT INTO "metric_points" VALUES(1,2,0,1,0,0.5,1767225600.0);
INSERT INTO "metric_points" VALUES(1,2,1,1,1,NULL,1767225601.0);
INSERT INTO "metric_points" VALUES(1,2,2,1,2,9e999,1767225602.0);
INSERT INTO "metric_points" VALUES(1,2,3,1,3,-9e999,1767225603.0);
INSERT INTO "metric_points" VALUES(1,2,4,1,4,1.7976931348623157e308,1767225604.0);
INSERT INTO "metric_points" VALUES(1,2,5,1,5,5e-324,1767225605.0);
INSERT INTO "metric_points" VALUES(1,2,5,2,0,0.125,1767225605.0);
INSERT INTO "metric_points" VALUES(1,2,6,1,6,0.25,1767225606.0);
INSERT INTO "metric_points" VALUES(1,3,0,1,0,0.0,1767225600.0);
INSERT INTO "metric_points" VALUES(1,3,1,1,1,1.0,1767225601.0);
INSERT INTO "metric_points" VALUES(1,3,2,1,2,2.0,1767225602.0);
INSERT INTO "metric_points" VALUES(1,3,3,1,3,3.0,1767225603.0);
INSERT INTO "metric_points" VALUES(1,3,4,1,4,4.0,1767225604.0);
INSERT INTO "metric_points" VALUES(1,3,5,1,5,5.0,1767225605.0);
INSERT INTO "metric_points" VALUES(1,3,6,1,6,6.0,1767225606.0);
INSERT INTO "metric_points" VALUES(2,2,1,1,0,0.75,1767225601.0);
CREATE TABLE metrics (
	experiment_id TEXT NOT NULL, 
	metric_name TEXT NOT NULL, 
	metric_value DOUBLE, 
	step BIGINT NOT NULL, 
	min_value DOUBLE, 
	min_step BIGINT, 
	max_value DOUBLE, 
	max_step BIGINT, 
	num_points BIGINT NOT NULL, 
	num_nonfinite BIGINT NOT NULL, 
	PRIMARY KEY (experiment_id, metric_name), 
	CONSTRAINT fk_metrics_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "metrics" VALUES('run-1','val/loss',0.125,5,0.125,5,1.7976931348623157e308,4,6,3);
INSERT INTO "metrics" VALUES('run-1','🦉 name',4.0,4,0.0,0,4.0,4,5,0);
INSERT INTO "metrics" VALUES('run-2','val/loss',0.75,1,0.75,1,0.75,1,1,0);
CREATE TABLE names (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_names_name UNIQUE (name)
);
INSERT INTO "names" VALUES(1,'load');
INSERT INTO "names" VALUES(2,'val/loss');
INSERT INTO "names" VALUES(3,'🦉 name');
CREATE TABLE notes (
	id INTEGER NOT NULL, 
	experiment_id TEXT NOT NULL, 
	timestamp TEXT NOT NULL, 
	note TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_notes_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
INSERT INTO "notes" VALUES(1,'run-1','2026-01-01T00:00:00.000Z','a note; with -- things');
CREATE TABLE params (
	experiment_id TEXT NOT NULL, 
	param_name TEXT NOT NULL, 
	param_value TEXT NOT NULL, 
	param_number DOUBLE, 
	PRIMARY KEY (experiment_id, param_name), 
	CONSTRAINT fk_params_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "params" VALUES('run-1','model_params.bias','true',1.0);
INSERT INTO "params" VALUES('run-1','model_params.top_k','2',2.0);
INSERT INTO "params" VALUES('run-1','model_type','moe',NULL);
INSERT INTO "params" VALUES('run-2','model_params.bias','true',1.0);
INSERT INTO "params" VALUES('run-2','model_params.top_k','2',2.0);
INSERT INTO "params" VALUES('run-2','model_type','moe',NULL);
CREATE TABLE research_eval_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT research_eval_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "research_eval_version" VALUES('0001');
CREATE TABLE schemas (
	hash TEXT NOT NULL, 
	schema_json TEXT NOT NULL, 
	PRIMARY KEY (hash)
);
INSERT INTO "schemas" VALUES('ff419ebbeba438f66900abe77818ce940702bdfe70fa173cb94beecee8d3f112','{"type": "object"}');
CREATE TABLE studies (
	name TEXT NOT NULL, 
	timestamp TEXT NOT NULL, 
	spec_json TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "studies" VALUES('s','2026-01-01T00:00:00.000Z','{"sampler": "tpe"}');
CREATE TABLE tags (
	experiment_id TEXT NOT NULL, 
	tag TEXT NOT NULL, 
	PRIMARY KEY (experiment_id, tag), 
	CONSTRAINT fk_tags_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
INSERT INTO "tags" VALUES('run-1','paper');
INSERT INTO "tags" VALUES('run-1','é');
CREATE INDEX ix_experiments_config_hash ON experiments (config_hash);
CREATE INDEX ix_experiments_timestamp ON experiments (timestamp);
CREATE INDEX ix_params_param_name ON params (param_name, param_number);
CREATE INDEX ix_metrics_metric_name ON metrics (metric_name, metric_value);
CREATE INDEX ix_notes_experiment_id ON notes (experiment_id);
CREATE VIEW metric_history AS SELECT experiments.experiment_id, names.name AS metric_name, metric_points.step, metric_points.value AS metric_value, metric_points.time 
FROM metric_points JOIN experiments ON experiments.id = metric_points.run_id JOIN names ON names.id = metric_points.name_id JOIN attempts ON attempts.run_id = metric_points.run_id AND attempts.attempt = metric_points.attempt 
WHERE attempts.valid_to_step IS NULL OR metric_points.step <= attempts.valid_to_step;
COMMIT;
