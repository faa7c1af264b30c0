-- Sets what macro audited_datasets looks at where no dataset is named: the ids in _in_use.
SET VARIABLE datasets_in_use = (SELECT coalesce(list(dataset_id), []::VARCHAR[]) FROM _in_use)
